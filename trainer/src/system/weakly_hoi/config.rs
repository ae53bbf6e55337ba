//! What can be chosen, and the rows of the paper's tables as choices.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::network::clip::ModifiedResNetConfig;

/// How a pair asks the knowledge bank (eq. 1 and Table 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// A softmax over the interactions.
    #[default]
    Softmax,
    /// A logistic function of each interaction, divided by their sum.
    Sigmoid,
    /// The bank's mean, whatever the pair.
    Uniform,
    /// No bank: the feature of the union region itself.
    Union,
}

/// How the cells of a box become one feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// CLIP's attention pooling.
    #[default]
    Attention,
    /// The mean, then a linear layer: for backbones that were trained with a mean, as ImageNet classifiers are.
    Mean,
}

/// Where the knowledge bank starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum BankStart {
    /// At the text encoder's vectors of the prompts.
    #[default]
    Text,
    /// At random (Exp 9).
    Random,
}

/// How the relatedness loss of an image's pairs becomes one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum OverPairs {
    /// Their sum (as printed).
    #[default]
    Sum,
    /// Their mean: hundreds of pairs do not drown the other losses.
    Mean,
}

/// What the prompts say of a pair without any training (Table 3): the softmax over the interactions of the union's feature, as CLIP has
/// it, against the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptScore {
    /// It is the score, times the detector's (Abl 1): nothing is trained.
    Alone,
    /// The score is multiplied by it (Abl 3).
    Factor,
}

/// Sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeaklyShape {
    /// Channels of the backbone's map Gamma.
    pub map_channels: i64,
    /// Width of what is known of a human beside the map, as features of crops of its own; 0 where nothing is.
    pub tokens: i64,
    /// Width D of features and bank.
    pub width: i64,
    /// Heads of the attention pooling; they divide `map_channels`.
    pub pool_heads: i64,
    /// Rows, and columns, of the pooling's position table.
    pub pool_grid: i64,
    /// Interaction verbs A.
    pub verbs: i64,
    /// Interactions N (verb with object, or alone).
    pub interactions: i64,
}

/// Parts of the method: Table 2's columns, and what Table 3 compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeaklyParts {
    /// HOI recognition: the global branch s_g with its loss L_g.
    pub recognition: bool,
    /// The bank is trained by L_g; otherwise it stays as it starts (Exp 2).
    pub bank_trained: bool,
    /// Knowledge transfer, and how.
    pub knowledge: Option<Knowledge>,
    /// sigma(s_g) multiplies the score at test.
    pub score_fusion: bool,
    /// The self-taught relatedness s_b, as loss L_b and as a factor at test.
    pub relatedness: bool,
    /// What the prompts say without training, at test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_score: Option<PromptScore>,
    /// As in GEN-VLKT (Abl 4): the last layer of F_P starts at the mean of each verb's prompts (of unit length), and the mean feature of an
    /// image's pairs is drawn to v_g as it was before training, by a squared distance.
    #[serde(default, skip_serializing_if = "is_false")]
    pub distilled: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl WeaklyParts {
    /// Whether anything is trained.
    pub fn trained(&self) -> bool {
        self.prompt_score != Some(PromptScore::Alone)
    }

    /// Whether the network keeps pooling and prompts as they were before training, beside those that are trained.
    pub fn keeps_start(&self) -> bool {
        self.prompt_score.is_some() || self.distilled
    }
}

/// The rows of Tables 2 and 3; Exp 8 to 10 are rows over other backbones and banks, and Abl 2 is the baseline over another backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum WeaklyRow {
    /// Pair feature to the verb head, L_p alone (also Exp 8).
    Baseline,
    /// + HOI recognition.
    Exp1,
    /// Exp 1 with a frozen bank.
    Exp2,
    /// + knowledge transfer.
    Exp3,
    /// + score fusion.
    Exp4,
    /// Relatedness alone.
    Exp5,
    /// Recognition and relatedness.
    Exp6,
    /// All but score fusion.
    Exp7,
    /// Recognition, transfer and fusion with a bank that starts at random (Exp 9 as its table marks it).
    Exp9,
    /// All of it (also Exp 10).
    Full,
    /// The prompts alone, against the union: nothing is trained (Table 3).
    Abl1,
    /// Baseline, times what the prompts alone say (Table 3).
    Abl3,
    /// Baseline that starts at the prompts and learns CLIP's feature of the picture, as GEN-VLKT does (Table 3).
    Abl4,
}

impl WeaklyRow {
    /// All rows of Table 2 in the paper's order.
    pub const ALL: [Self; 10] = [
        Self::Baseline,
        Self::Exp1,
        Self::Exp2,
        Self::Exp3,
        Self::Exp4,
        Self::Exp5,
        Self::Exp6,
        Self::Exp7,
        Self::Exp9,
        Self::Full,
    ];

    /// The rows that only Table 3 has.
    pub const TABLE_3: [Self; 3] = [Self::Abl1, Self::Abl3, Self::Abl4];

    /// Name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Exp1 => "+ HOI recognition",
            Self::Exp2 => "+ HOI recognition, bank frozen",
            Self::Exp3 => "+ KTN",
            Self::Exp4 => "+ score fusion",
            Self::Exp5 => "baseline + SRC",
            Self::Exp6 => "HOI recognition + SRC",
            Self::Exp7 => "without score fusion",
            Self::Exp9 => "random bank, without SRC",
            Self::Full => "Weakly-HOI",
            Self::Abl1 => "prompts alone",
            Self::Abl3 => "baseline x prompts",
            Self::Abl4 => "baseline + distillation",
        }
    }

    /// Its parts.
    pub fn parts(self) -> WeaklyParts {
        let (recognition, bank_trained, transfer, score_fusion, relatedness) = match self {
            Self::Baseline | Self::Abl1 | Self::Abl3 | Self::Abl4 => (false, false, false, false, false),
            Self::Exp1 => (true, true, false, false, false),
            Self::Exp2 => (true, false, false, false, false),
            Self::Exp3 => (true, true, true, false, false),
            Self::Exp4 | Self::Exp9 => (true, true, true, true, false),
            Self::Exp5 => (false, false, false, false, true),
            Self::Exp6 => (true, true, false, false, true),
            Self::Exp7 => (true, true, true, false, true),
            Self::Full => (true, true, true, true, true),
        };
        let knowledge = transfer.then(Knowledge::default);
        let prompt_score = match self {
            Self::Abl1 => Some(PromptScore::Alone),
            Self::Abl3 => Some(PromptScore::Factor),
            _ => None,
        };
        let distilled = self == Self::Abl4;
        WeaklyParts { recognition, bank_trained, knowledge, score_fusion, relatedness, prompt_score, distilled }
    }

    /// Whether `self` can have the weights of `other`: it is trained at all, and they differ in nothing but score fusion.
    pub fn trained_as(self, other: Self) -> bool {
        let trained = |row: Self| (WeaklyParts { score_fusion: false, ..row.parts() }, row.bank());
        self.parts().trained() && trained(self) == trained(other)
    }

    /// Where its bank starts.
    pub fn bank(self) -> BankStart {
        if self == Self::Exp9 { BankStart::Random } else { BankStart::Text }
    }
}

/// The self-taught relatedness (section 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTaught {
    /// Pairs that each annotated verb chooses (Table 5: 1, 2, 5).
    pub positives: usize,
    /// A pair must carry the object of the annotated interaction itself, not of any.
    pub strict: bool,
    /// Reduction over the pairs of an image.
    pub over_pairs: OverPairs,
    /// Steps before L_b counts.
    pub after_steps: usize,
}

impl Default for SelfTaught {
    fn default() -> Self {
        Self { positives: 1, strict: false, over_pairs: OverPairs::Sum, after_steps: 1000 }
    }
}

/// What a model is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeaklyConfig {
    /// Sizes.
    pub shape: WeaklyShape,
    /// How the cells of a box become one feature.
    pub pooling: Pooling,
    /// Share of features and hidden values that training sets to 0.
    pub dropout: f64,
    /// Parts of the method.
    pub parts: WeaklyParts,
    /// Where the bank starts.
    pub bank: BankStart,
    /// Name of the text encoder, for the record.
    pub encoder: String,
    /// The relatedness loss.
    pub self_taught: SelfTaught,
    /// Whether interactions exclude each other, as in a data set whose images show one each: L_g and L_p are then cross-entropies over all
    /// interactions and verbs, not binary ones of each.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
    /// CLIP's visual network, where it is trained with the rest; its weights are then the model's. Without it, maps come from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<ModifiedResNetConfig>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 2 as it is printed: recognition, transfer, fusion, SRC.
    #[test]
    fn rows_are_those_of_table_2() {
        let crosses = [
            (WeaklyRow::Baseline, [0, 0, 0, 0]),
            (WeaklyRow::Exp1, [1, 0, 0, 0]),
            (WeaklyRow::Exp2, [1, 0, 0, 0]),
            (WeaklyRow::Exp3, [1, 1, 0, 0]),
            (WeaklyRow::Exp4, [1, 1, 1, 0]),
            (WeaklyRow::Exp5, [0, 0, 0, 1]),
            (WeaklyRow::Exp6, [1, 0, 0, 1]),
            (WeaklyRow::Exp7, [1, 1, 0, 1]),
            (WeaklyRow::Exp9, [1, 1, 1, 0]),
            (WeaklyRow::Full, [1, 1, 1, 1]),
        ];
        assert_eq!(crosses.map(|c| c.0), WeaklyRow::ALL);
        for (row, expected) in crosses {
            let parts = row.parts();
            let found = [parts.recognition, parts.knowledge.is_some(), parts.score_fusion, parts.relatedness];
            assert_eq!(found.map(u8::from), expected, "{}", row.title());
        }
        assert!(!WeaklyRow::Exp2.parts().bank_trained && WeaklyRow::Exp1.parts().bank_trained);
    }

    #[test]
    fn rows_that_are_trained_alike() {
        let alike = |row: WeaklyRow| {
            let others = WeaklyRow::ALL.into_iter().filter(|other| *other != row && row.trained_as(*other));
            others.collect::<Vec<_>>()
        };
        assert_eq!(alike(WeaklyRow::Exp4), [WeaklyRow::Exp3]);
        assert_eq!(alike(WeaklyRow::Full), [WeaklyRow::Exp7]);
        assert!(alike(WeaklyRow::Exp9).is_empty() && alike(WeaklyRow::Exp2).is_empty());
        assert!(!WeaklyRow::Abl1.trained_as(WeaklyRow::Abl1) && !WeaklyRow::Abl3.trained_as(WeaklyRow::Baseline));
    }

    /// Table 3's rows have nothing of Table 2's columns; descriptions of others say nothing of them.
    #[test]
    fn rows_of_table_3() {
        for row in WeaklyRow::TABLE_3 {
            let parts = row.parts();
            let columns = WeaklyParts { prompt_score: None, distilled: false, ..parts };
            assert_eq!(columns, WeaklyRow::Baseline.parts(), "{}", row.title());
            assert!(parts.keeps_start() && parts.trained() == (row != WeaklyRow::Abl1));
            assert_eq!(serde_json::from_str::<WeaklyParts>(&serde_json::to_string(&parts).unwrap()).unwrap(), parts);
        }
        let older =
            r#"{"recognition":true,"bank_trained":true,"knowledge":"softmax","score_fusion":true,"relatedness":true}"#;
        assert_eq!(serde_json::from_str::<WeaklyParts>(older).unwrap(), WeaklyRow::Full.parts());
        assert_eq!(serde_json::to_string(&WeaklyRow::Full.parts()).unwrap(), older);
    }
}
