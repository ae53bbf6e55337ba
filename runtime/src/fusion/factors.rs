//! What a score is made of.

use std::fmt;

use serde::Serialize;

/// The factors of a triplet's score: their product is the score, or what the rule's calibration turns into it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Factors {
    /// Of `detr_prior`.
    DetrPrior {
        /// The verb's probability `sigma(z)`.
        verb: f32,
        /// The detector's `(s_h s_o)^lambda`.
        prior: f32,
    },
    /// Of `weakly`: the three numbers of Weakly-HOI's Figure 3, and the detector's.
    Weakly {
        /// Normalised pair score `e`: the verb's probability in the picture times this pair's share of it.
        pair: f32,
        /// Global score `sigma(g)`: that the picture shows the interaction; `None` where the head has no `image_logits`.
        #[serde(skip_serializing_if = "Option::is_none")]
        global: Option<f32>,
        /// Relatedness `sigma(b)` of human and object; `None` where the head has no `relatedness`.
        #[serde(skip_serializing_if = "Option::is_none")]
        relatedness: Option<f32>,
        /// The detector's `(s_h s_o)^gamma`.
        prior: f32,
    },
}

impl Factors {
    /// Name and value of each factor, without those that the head does not give.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f32)> {
        let all = match *self {
            Self::DetrPrior { verb, prior } => [Some(("verb", verb)), None, None, Some(("prior", prior))],
            Self::Weakly { pair, global, relatedness, prior } => [
                Some(("pair", pair)),
                global.map(|value| ("global", value)),
                relatedness.map(|value| ("relatedness", value)),
                Some(("prior", prior)),
            ],
        };
        all.into_iter().flatten()
    }

    /// The score before calibration.
    pub fn product(&self) -> f32 {
        self.named().map(|(_, value)| value).product()
    }
}

/// `pair 0.8123 x global 0.9312 x relatedness 0.8800 x prior 0.7011`.
impl fmt::Display for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.named().enumerate() {
            let times = if i == 0 { "" } else { " x " };
            write!(f, "{times}{name} {value:.4}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_written_and_multiplied() {
        let all = Factors::Weakly { pair: 0.5, global: Some(0.25), relatedness: Some(0.75), prior: 0.5 };
        assert_eq!(all.to_string(), "pair 0.5000 x global 0.2500 x relatedness 0.7500 x prior 0.5000");
        let json = r#"{"pair":0.5,"global":0.25,"relatedness":0.75,"prior":0.5}"#;
        assert_eq!(serde_json::to_string(&all).unwrap(), json);
        assert_eq!(all.product(), 0.046_875);
        let few = Factors::Weakly { pair: 0.5, global: None, relatedness: None, prior: 0.5 };
        assert_eq!(serde_json::to_string(&few).unwrap(), r#"{"pair":0.5,"prior":0.5}"#);
        assert_eq!((few.product(), few.to_string().as_str()), (0.25, "pair 0.5000 x prior 0.5000"));
        let prior = Factors::DetrPrior { verb: 0.5, prior: 0.25 };
        assert_eq!(serde_json::to_string(&prior).unwrap(), r#"{"verb":0.5,"prior":0.25}"#);
        assert_eq!(prior.product(), 0.125);
    }
}
