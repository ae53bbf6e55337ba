//! From token ids to the first hidden state (RmLR, eq. 7: token plus position).

use tch::{Kind, Tensor};

use super::config::{Architecture, TextConfig};
use super::layers::{Linear, Norm};
use super::{Take, WeightsError};

/// PyTorch's default, which MobileBERT takes where its own configuration is not passed on.
pub(super) const DEFAULT_NORM_EPS: f64 = 1e-5;

/// Embeddings of tokens, positions and the first token type, normalised.
#[derive(Debug)]
pub(super) struct Embeddings {
    words: Tensor,
    positions: Tensor,
    /// Row 0 of the token-type table: every text here is a first text.
    first_type: Tensor,
    /// MobileBERT: from the embedding's width (three times that with neighbours) to the hidden state's.
    transform: Option<Linear>,
    norm: Norm,
    trigram: bool,
    /// RoBERTa: positions count from behind this id, and padding stays at it.
    positions_behind: Option<i64>,
}

impl Embeddings {
    pub(super) fn new(config: &TextConfig, take: &Take<'_>) -> Result<Self, WeightsError> {
        let narrow = config.embedding_width;
        // ALBERT adds and normalises at the narrow width, MobileBERT at the wide one.
        let (sum_width, eps, trigram, transform) = match &config.architecture {
            Architecture::Bert | Architecture::Roberta | Architecture::Albert { .. } => {
                (narrow, Some(config.norm_eps), false, None)
            }
            Architecture::MobileBert(bottleneck) => {
                let from = if bottleneck.trigram { 3 * narrow } else { narrow };
                // The published weights always have this layer; the network uses it where the widths differ.
                let used = bottleneck.trigram || narrow != config.width;
                let transform = used
                    .then(|| Linear::new("embeddings.embedding_transformation", from, config.width, take))
                    .transpose()?;
                let eps = (!bottleneck.no_norm).then_some(DEFAULT_NORM_EPS);
                (config.width, eps, bottleneck.trigram, transform)
            }
        };
        let types = take("embeddings.token_type_embeddings.weight", &[config.types, sum_width])?;
        Ok(Self {
            words: take("embeddings.word_embeddings.weight", &[config.vocabulary, narrow])?,
            positions: take("embeddings.position_embeddings.weight", &[config.positions, sum_width])?,
            first_type: types.get(0),
            transform,
            norm: Norm::new("embeddings.LayerNorm", sum_width, eps, take)?,
            trigram,
            positions_behind: (config.architecture == Architecture::Roberta).then_some(config.padding_id),
        })
    }

    /// `ids` i64 `[B, L]` to `[B, L, D]` (ALBERT: the embedding's width).
    pub(super) fn forward(&self, ids: &Tensor) -> Tensor {
        let length = ids.size()[1];
        let mut x = Tensor::embedding(&self.words, ids, -1, false, false);
        if self.trigram {
            // The next token's embedding, the token's own, the one before; zeros beyond the ends.
            let next = x.narrow(1, 1, length - 1).constant_pad_nd([0, 0, 0, 1]);
            let before = x.narrow(1, 0, length - 1).constant_pad_nd([0, 0, 1, 0]);
            x = Tensor::cat(&[next, x, before], 2);
        }
        if let Some(transform) = &self.transform {
            x = transform.forward(&x);
        }
        let positions = match self.positions_behind {
            None => self.positions.narrow(0, 0, length).unsqueeze(0),
            Some(padding) => {
                let token = ids.ne(padding).to_kind(Kind::Int64);
                let place = token.cumsum(1, Kind::Int64) * &token + padding;
                Tensor::embedding(&self.positions, &place, -1, false, false)
            }
        };
        self.norm.forward(&(x + positions + &self.first_type))
    }
}
