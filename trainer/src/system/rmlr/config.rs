//! What can be chosen, and the rows of the paper's tables as choices.

use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the masked RoI is averaged (eq. 5 leaves it open). `sum` is over the cells covered by human or object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RoiPooling {
    /// Divided by the area of the box that encloses both: RoI average pooling with exact areas.
    #[default]
    Enclosing,
    /// Divided by the area covered: the mean over the two boxes.
    Covered,
    /// Divided by the number of cells of the map.
    Map,
}

/// Which words a pair may attend to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Words {
    /// All words of the image (as printed).
    #[default]
    All,
    /// Those of the triplets that the pair carries.
    Own,
}

/// How the sub-sentences of an image are read by the text encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum TextMode {
    /// Joined by separators, so that words see their neighbours (eq. 7).
    #[default]
    Joined,
    /// Each alone: cheaper, without context.
    PerSentence,
}

/// The part of the training, in shares of its epochs, during which the cross-attended side of the word losses gets no gradient.
///
/// A word loss is an L1 between two learned things. Both with a gradient from the start, they meet in a constant within three epochs,
/// and neither words nor sentences are learned from then on (docs/decisions/0006): hence [`DetachWords::ALWAYS`] by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachWords {
    /// First share.
    pub from: f64,
    /// First share after it.
    pub until: f64,
}

impl DetachWords {
    /// The pairs' side alone moves.
    pub const ALWAYS: Self = Self { from: 0.0, until: 1.0 };
    /// Both sides move.
    pub const NEVER: Self = Self { from: 1.0, until: 1.0 };

    /// Whether epoch `number` (from 0 on) of `epochs` lies in it.
    pub fn in_epoch(self, number: usize, epochs: usize) -> bool {
        let share = number as f64 / epochs.max(1) as f64;
        (self.from..self.until).contains(&share)
    }
}

impl FromStr for DetachWords {
    type Err = String;

    /// `always`, `never`, or two shares such as `0-0.3`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => return Ok(Self::ALWAYS),
            "never" => return Ok(Self::NEVER),
            _ => {}
        }
        let share = |part: &str| part.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        match text.split_once('-').map(|(from, until)| (share(from), share(until))) {
            Some((Some(from), Some(until))) if from <= until => Ok(Self { from, until }),
            _ => Err("expected always, never, or two shares of the epochs from 0 to 1, such as 0-0.3".to_owned()),
        }
    }
}

impl std::fmt::Display for DetachWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::ALWAYS => write!(f, "always"),
            Self::NEVER => write!(f, "never"),
            Self { from, until } => write!(f, "{from}-{until}"),
        }
    }
}

/// Sizes of what is exported. The defaults are those of the full-size head (15.08 M parameters with 117 verbs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmlrShape {
    /// Channels of the backbone map X^v.
    pub map_channels: i64,
    /// Width of the detector's tokens.
    pub token_width: i64,
    /// Verbs.
    pub verbs: i64,
    /// Width d_e of the Interactive Relation Encoder.
    pub relation_width: i64,
    /// Its heads.
    pub relation_heads: i64,
    /// Its feed-forward width.
    pub relation_feed_forward: i64,
    /// Its layers.
    pub relation_layers: usize,
    /// Width of the cue m and of the context g (appendix B: 512).
    pub cue: i64,
    /// Width that each entity token is widened to.
    pub entity: i64,
    /// Width D_H of pair tokens.
    pub pair: i64,
    /// Heads of the Interaction Reasoning Module.
    pub reasoning_heads: i64,
    /// Its feed-forward width.
    pub reasoning_feed_forward: i64,
    /// Its layers (Table 8).
    pub reasoning_layers: usize,
    /// Dropout of all encoder layers.
    pub dropout: f64,
    /// Whether the pair's cue m is re-mined (eqs. 4, 5).
    pub cue_used: bool,
    /// Whether the context g of the whole picture is used (eq. 6).
    pub context_used: bool,
    /// Whether the 36 values of box geometry join the pair token; RmLR has none.
    pub spatial_used: bool,
    /// Reading of the masked RoI.
    pub pooling: RoiPooling,
}

impl RmlrShape {
    /// The full-size head over a DETR with a ResNet.
    pub fn full(verbs: i64) -> Self {
        Self {
            map_channels: 2048,
            token_width: 256,
            verbs,
            relation_width: 256,
            relation_heads: 8,
            relation_feed_forward: 2048,
            relation_layers: 2,
            cue: 512,
            entity: 512,
            pair: 1024,
            reasoning_heads: 8,
            reasoning_feed_forward: 2048,
            reasoning_layers: 1,
            dropout: 0.1,
            cue_used: true,
            context_used: true,
            spatial_used: false,
            pooling: RoiPooling::Enclosing,
        }
    }

    /// A head for rendered scenes that trains on a CPU within a minute or two: every width divided by eight.
    pub fn tiny(map_channels: i64, token_width: i64, verbs: i64) -> Self {
        Self {
            map_channels,
            token_width,
            relation_width: 64,
            relation_heads: 4,
            relation_feed_forward: 128,
            cue: 64,
            entity: 64,
            pair: 128,
            reasoning_heads: 4,
            reasoning_feed_forward: 256,
            // Drawing what to drop costs a CPU a third of the time.
            dropout: 0.0,
            ..Self::full(verbs)
        }
    }
}

/// Weights of eq. 22. Superscript m is the reasoning module, a the re-mining encoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// L_hoi.
    pub hoi: f64,
    /// L_s^m: sentences, reasoning module.
    pub sentence_reasoning: f64,
    /// L_w^m: words, reasoning module.
    pub word_reasoning: f64,
    /// L_s^a: sentences, re-mining encoder.
    pub sentence_remining: f64,
    /// L_w^a: words, re-mining encoder.
    pub word_remining: f64,
}

impl Default for LossWeights {
    /// The best row of Table 7.
    fn default() -> Self {
        Self::of([2.0, 1.0, 1.0, 0.1, 0.1])
    }
}

impl LossWeights {
    /// Those of the tiny configuration, chosen on validation scenes (docs/decisions/0006).
    pub fn tiny() -> Self {
        Self::of([2.0, 5.0, 5.0, 2.0, 2.0])
    }

    /// In the order of Table 7: hoi, s^m, w^m, s^a, w^a.
    pub fn of([hoi, sentence_reasoning, word_reasoning, sentence_remining, word_remining]: [f64; 5]) -> Self {
        Self { hoi, sentence_reasoning, word_reasoning, sentence_remining, word_remining }
    }

    /// In the order of Table 7.
    pub fn values(&self) -> [f64; 5] {
        [self.hoi, self.sentence_reasoning, self.word_reasoning, self.sentence_remining, self.word_remining]
    }

    /// Whether any of the four transfer losses counts: without, no text is read at all.
    pub fn transfer(&self) -> bool {
        self.values()[1..].iter().any(|&w| w != 0.0)
    }
}

impl FromStr for LossWeights {
    type Err = String;

    /// Five numbers with commas between, in the order of Table 7; none may be negative.
    fn from_str(text: &str) -> Result<Self, String> {
        let values: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse::<f64>()).collect();
        match values.as_deref() {
            Ok(&[a, b, c, d, e]) if [a, b, c, d, e].iter().all(|w| w.is_finite() && *w >= 0.0) => {
                Ok(Self::of([a, b, c, d, e]))
            }
            _ => Err("expected five numbers from 0 on: hoi,s^m,w^m,s^a,w^a, such as 2,1,1,0.1,0.1".to_owned()),
        }
    }
}

/// The rows of Table 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// Tokens to the reasoning module and the classifier: nothing re-mined, no language.
    Plain,
    /// Re-mining without cross-modal learning.
    WithoutCl,
    /// Language for the reasoning module, nothing re-mined.
    WithoutRm,
    /// Without the word-level losses.
    WithoutWa,
    /// Without the sentence-level losses.
    WithoutSa,
    /// Without knowledge transfer to the reasoning module.
    WithoutIrmKt,
    /// Without knowledge transfer to the re-mining encoder.
    WithoutIreKt,
    /// All of it.
    Full,
}

impl Row {
    /// All rows in the order of Table 2.
    pub const ALL: [Row; 8] = [
        Row::Plain,
        Row::WithoutCl,
        Row::WithoutRm,
        Row::WithoutWa,
        Row::WithoutSa,
        Row::WithoutIrmKt,
        Row::WithoutIreKt,
        Row::Full,
    ];

    /// The paper's name of the row.
    pub fn title(self) -> &'static str {
        match self {
            Row::Plain => "plain",
            Row::WithoutCl => "w/o CL",
            Row::WithoutRm => "w/o Rm",
            Row::WithoutWa => "w/o WA",
            Row::WithoutSa => "w/o SA",
            Row::WithoutIrmKt => "w/o IRM-KT",
            Row::WithoutIreKt => "w/o IRE-KT",
            Row::Full => "RmLR",
        }
    }

    /// Whether the pair's picture is re-mined.
    pub fn remines(self) -> bool {
        !matches!(self, Row::Plain | Row::WithoutRm)
    }

    /// The row as changes of `shape` and `weights`. `context` keeps the context g in rows that do not re-mine: eq. 6 stands in the
    /// paragraph on re-mining, so without this it goes with m.
    pub fn apply(self, shape: &mut RmlrShape, weights: &mut LossWeights, context: bool) {
        shape.cue_used = self.remines();
        shape.context_used = self.remines() || context;
        let (reasoning, remining, sentence, word) = match self {
            Row::Plain | Row::WithoutCl => (false, false, false, false),
            Row::WithoutRm | Row::WithoutIreKt => (true, false, true, true),
            Row::WithoutWa => (true, true, true, false),
            Row::WithoutSa => (true, true, false, true),
            Row::WithoutIrmKt => (false, true, true, true),
            Row::Full => (true, true, true, true),
        };
        let keep = |weight: &mut f64, kept: bool| *weight = if kept { *weight } else { 0.0 };
        keep(&mut weights.sentence_reasoning, reasoning && sentence);
        keep(&mut weights.word_reasoning, reasoning && word);
        keep(&mut weights.sentence_remining, remining && sentence);
        keep(&mut weights.word_remining, remining && word);
    }
}

/// The language side, present in training only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageConfig {
    /// Name of the text encoder, for the record.
    pub encoder: String,
    /// Width D_t of its vectors.
    pub text_width: i64,
    /// Heads of self- and cross-attention.
    pub heads: i64,
    /// Feed-forward width of the self-attention layers.
    pub feed_forward: i64,
    /// Self-attention layers of each stream (Table 8).
    pub self_attention_layers: usize,
    /// Dropout.
    pub dropout: f64,
    /// Which words a pair sees.
    pub words: Words,
    /// How sub-sentences are read.
    pub text: TextMode,
    /// When the cross-attended side of the word losses gets no gradient.
    pub detach_words: DetachWords,
}

impl LanguageConfig {
    /// Defaults beside a head of this shape.
    pub fn beside(shape: &RmlrShape, encoder: &str, text_width: i64) -> Self {
        Self {
            encoder: encoder.to_owned(),
            text_width,
            heads: shape.reasoning_heads,
            feed_forward: shape.reasoning_feed_forward,
            self_attention_layers: 2,
            dropout: shape.dropout,
            words: Words::All,
            text: TextMode::Joined,
            detach_words: DetachWords::ALWAYS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_weights_are_read_in_the_order_of_table_7() {
        assert_eq!("2,1,1,0.1,.1".parse(), Ok(LossWeights::default()));
        let read: LossWeights = "1, 2,3,4,5".parse().unwrap();
        assert_eq!((read.hoi, read.sentence_reasoning, read.word_reasoning), (1.0, 2.0, 3.0));
        assert_eq!((read.sentence_remining, read.word_remining), (4.0, 5.0));
        for wrong in ["", "1,2", "1,2,3,4,5,6", "1,2,x,4,5", "1,2,-3,4,5", "1,2,NaN,4,5"] {
            assert!(wrong.parse::<LossWeights>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_of_the_training_are_read_and_written() {
        for (text, detached) in [("always", [0, 1, 2, 3, 9]), ("never", [9; 5]), ("0-0.5", [0, 1, 9, 9, 9])] {
            let part: DetachWords = text.parse().unwrap();
            assert_eq!(part.to_string(), text);
            for epoch in 0..4 {
                assert_eq!(part.in_epoch(epoch, 4), detached.contains(&epoch), "{text}, epoch {epoch}");
            }
        }
        for wrong in ["", "0.3", "0.5-0.3", "0-2", "-1-1", "sometimes", "NaN-1"] {
            assert!(wrong.parse::<DetachWords>().is_err(), "{wrong}");
        }
    }

    /// Table 2 as it is printed: IRE, IRE SA, IRE WA, IRM SA, IRM WA.
    #[test]
    fn rows_are_those_of_table_2() {
        let crosses = [
            (Row::Plain, [0, 0, 0, 0, 0]),
            (Row::WithoutCl, [1, 0, 0, 0, 0]),
            (Row::WithoutRm, [0, 0, 0, 1, 1]),
            (Row::WithoutWa, [1, 1, 0, 1, 0]),
            (Row::WithoutSa, [1, 0, 1, 0, 1]),
            (Row::WithoutIrmKt, [1, 1, 1, 0, 0]),
            (Row::WithoutIreKt, [1, 0, 0, 1, 1]),
            (Row::Full, [1, 1, 1, 1, 1]),
        ];
        for (row, expected) in crosses {
            let (mut shape, mut weights) = (RmlrShape::full(117), LossWeights::default());
            row.apply(&mut shape, &mut weights, false);
            let on = |w: f64| u8::from(w != 0.0);
            let found = [
                u8::from(shape.cue_used),
                on(weights.sentence_remining),
                on(weights.word_remining),
                on(weights.sentence_reasoning),
                on(weights.word_reasoning),
            ];
            assert_eq!(found, expected, "{}", row.title());
            assert_eq!(shape.context_used, row.remines());
            assert_eq!(weights.hoi, 2.0);
            row.apply(&mut shape, &mut weights, true);
            assert!(shape.context_used);
        }
    }
}
