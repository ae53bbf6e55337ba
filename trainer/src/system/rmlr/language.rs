//! Cross-modal learning (RmLR 3.4): two streams of pairs against the words and sentences of their picture. Training only: every
//! parameter lies under `text.`, and nothing of it is exported.

use tch::{Kind, Tensor, nn, no_grad};

use super::config::{LanguageConfig, LossWeights, RmlrShape};
use super::network::VisualOutput;
use crate::network::init::linear_from;
use crate::network::transformer::{Activation, EncoderLayer, EncoderLayerConfig, MultiHeadAttention};

/// The pairs of a batch that match an annotated pair, and their text.
#[derive(Debug)]
pub struct TextBatch {
    /// Which of the batch's R pairs match, `[n]`, i64; each once.
    pub matched: Tensor,
    /// Words that each of them sees, `[n, W, D_t]`.
    pub words: Tensor,
    /// Filling among them, `[n, W]`, bool; every row has a word.
    pub word_padding: Tensor,
    /// One entry per (pair, triplet): position in `matched`, `[t]`, i64.
    pub term_pair: Tensor,
    /// Sentence vector e_cls of its triplet, `[t, D_t]`.
    pub term_sentence: Tensor,
}

/// The four transfer losses; `None` where its weight is 0 or no pair of the batch matches.
#[derive(Debug, Default)]
pub struct TransferLosses {
    /// L_s^m, eq. 18.
    pub sentence_reasoning: Option<Tensor>,
    /// L_w^m, eq. 16.
    pub word_reasoning: Option<Tensor>,
    /// L_s^a, eq. 19.
    pub sentence_remining: Option<Tensor>,
    /// L_w^a, eq. 17.
    pub word_remining: Option<Tensor>,
    /// Standard deviation of O^va over the matched pairs, mean over channels: near 0 when the L1 between two learned things collapses.
    pub spread: Option<f64>,
}

/// One stream: M or O.
#[derive(Debug)]
struct Stream {
    project: Option<nn::Linear>,
    attend: Vec<EncoderLayer>,
    words: Option<MultiHeadAttention>,
    sentence: Option<[nn::Linear; 2]>,
}

/// The language side.
#[derive(Debug)]
pub struct CrossModal {
    words: Option<nn::Linear>,
    reasoning: Option<Stream>,
    remining: Option<Stream>,
}

/// Eq. 15: mean over pairs and channels of the absolute difference.
pub fn distance(a: &Tensor, b: &Tensor) -> Tensor {
    (a - b).abs().mean(None::<Kind>)
}

impl Stream {
    fn new(
        path: &nn::Path<'_>,
        shape: &RmlrShape,
        config: &LanguageConfig,
        from: Option<i64>,
        word: bool,
        sentence: bool,
    ) -> Self {
        let linear = |path: nn::Path<'_>, from, to| nn::linear(path, from, to, nn::LinearConfig::default());
        let layer = EncoderLayerConfig {
            width: shape.pair,
            heads: config.heads,
            feed_forward: config.feed_forward,
            dropout: config.dropout,
            activation: Activation::Gelu,
            norm_eps: 1e-12,
        };
        let layers = path / "self";
        Self {
            project: from.map(|from| linear(path / "project", from, shape.pair)),
            attend: (0..config.self_attention_layers).map(|i| EncoderLayer::new(&(&layers / i), &layer)).collect(),
            words: word.then(|| MultiHeadAttention::new(&(path / "words"), shape.pair, config.heads)),
            sentence: sentence.then(|| {
                [
                    linear(path / "sentence" / 0, shape.pair, shape.pair),
                    // Starts as a constant, see `CrossModal::start_at`.
                    linear_from(
                        &(path / "sentence" / 2),
                        shape.pair,
                        config.text_width,
                        nn::Init::Const(0.0),
                        nn::Init::Const(0.0),
                    ),
                ]
            }),
        }
    }

    /// Eqs. 11 and 12, then the rows that match an annotated pair: M^va or O^va, `[n, width]`.
    fn associate(&self, x: &Tensor, apart: Option<&Tensor>, matched: &Tensor, train: bool) -> Tensor {
        let mut x = match &self.project {
            Some(project) => x.apply(project),
            None => x.shallow_clone(),
        }
        .unsqueeze(0);
        for layer in &self.attend {
            x = layer.forward(&x, None, apart, train);
        }
        x.squeeze_dim(0).index_select(0, matched)
    }

    /// Word and sentence loss of the associated rows.
    fn losses(
        &self,
        rows: &Tensor,
        words: Option<&Tensor>,
        text: &TextBatch,
        detach: bool,
        train: bool,
        dropout: f64,
    ) -> [Option<Tensor>; 2] {
        let word = self.words.as_ref().zip(words).map(|(attention, words)| {
            // Eqs. 13 and 14: the attention's output alone. With a residual, target and input would differ by little.
            let attended = attention
                .forward(&rows.unsqueeze(1), words, words, Some(&text.word_padding), dropout, train)
                .squeeze_dim(1);
            distance(rows, &if detach { attended.detach() } else { attended })
        });
        let sentence = self.sentence.as_ref().map(|[first, second]| {
            let said = rows.index_select(0, &text.term_pair).apply(first).relu().apply(second);
            distance(&text.term_sentence, &said)
        });
        [word, sentence]
    }
}

impl CrossModal {
    /// What the weights ask for, and no more.
    pub fn new(path: &nn::Path<'_>, shape: &RmlrShape, config: &LanguageConfig, weights: &LossWeights) -> Self {
        let path = path / "text";
        let on = |weight: f64| weight != 0.0;
        let (word_m, sentence_m) = (on(weights.word_reasoning), on(weights.sentence_reasoning));
        let cue = shape.cue_used;
        let (word_a, sentence_a) = (cue && on(weights.word_remining), cue && on(weights.sentence_remining));
        let stream = |name: &str, from, word, sentence| {
            (word || sentence).then(|| Stream::new(&(&path / name), shape, config, from, word, sentence))
        };
        Self {
            words: (word_m || word_a)
                .then(|| nn::linear(&path / "words", config.text_width, shape.pair, nn::LinearConfig::default())),
            reasoning: stream("reasoning", None, word_m, sentence_m),
            remining: stream("remining", Some(shape.cue), word_a, sentence_a),
        }
    }

    /// Lets the last layer of FFN_1 and FFN_2 start at `sentence`, `[D_t]`, for every pair: the mean of the sentence vectors.
    ///
    /// From a random start, the fastest way down in an L1 to vectors that have most in common is to make all pairs alike, and the
    /// layers before do not recover from it. From the mean on, only what differs between pairs lowers the loss.
    pub fn start_at(&self, sentence: &Tensor) {
        no_grad(|| {
            for [_, last] in [&self.reasoning, &self.remining].into_iter().flatten().flat_map(|stream| &stream.sentence)
            {
                if let Some(bias) = &last.bs {
                    bias.shallow_clone().copy_(sentence);
                }
            }
        });
    }

    /// The transfer losses of a batch; `apart` as in [`super::VisualBatch`]. `text` is `None` when no pair matches (P_a = 0): all losses are absent, hence 0.
    pub fn forward(
        &self,
        output: &VisualOutput,
        apart: Option<&Tensor>,
        text: Option<&TextBatch>,
        detach: bool,
        train: bool,
        dropout: f64,
    ) -> TransferLosses {
        let mut losses = TransferLosses::default();
        let Some(text) = text else { return losses };
        let words = self.words.as_ref().map(|linear| text.words.apply(linear));
        if let Some(stream) = &self.reasoning {
            let rows = stream.associate(&output.reasoned, apart, &text.matched, train);
            [losses.word_reasoning, losses.sentence_reasoning] =
                stream.losses(&rows, words.as_ref(), text, detach, train, dropout);
            losses.spread = Some(if rows.size()[0] > 1 {
                rows.detach().std_dim([0i64].as_slice(), false, false).mean(None::<Kind>).double_value(&[])
            } else {
                0.0
            });
        }
        if let (Some(stream), Some(cue)) = (&self.remining, &output.cue) {
            let rows = stream.associate(cue, apart, &text.matched, train);
            [losses.word_remining, losses.sentence_remining] =
                stream.losses(&rows, words.as_ref(), text, detach, train, dropout);
        }
        losses
    }
}

impl TransferLosses {
    /// The weighted sum beside the classification loss (eq. 22), and every part by name for the log.
    pub fn total(&self, hoi: &Tensor, weights: &LossWeights) -> (Tensor, Vec<(&'static str, f64)>) {
        let mut total = hoi * weights.hoi;
        let mut parts = vec![("hoi", hoi.double_value(&[]))];
        for (name, loss, weight) in [
            ("sentence_reasoning", &self.sentence_reasoning, weights.sentence_reasoning),
            ("word_reasoning", &self.word_reasoning, weights.word_reasoning),
            ("sentence_remining", &self.sentence_remining, weights.sentence_remining),
            ("word_remining", &self.word_remining, weights.word_remining),
        ] {
            if let Some(loss) = loss {
                total += loss * weight;
                parts.push((name, loss.double_value(&[])));
            }
        }
        if let Some(spread) = self.spread {
            parts.push(("spread", spread));
        }
        (total, parts)
    }
}
