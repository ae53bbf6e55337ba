//! CLIP's text transformer.

use tch::Tensor;
use tch::nn::{self, Init, LayerNorm, Module};

use super::blocks::Blocks;
use super::config::TextTransformerConfig;
use crate::network::init::layer_norm;

/// A causal transformer whose feature is that of the end-of-text token.
///
/// Keys as OpenAI's: `token_embedding.weight`, `positional_embedding`, `transformer.resblocks.0.*`, ..., `ln_final.*`,
/// `text_projection`.
#[derive(Debug)]
pub struct TextTransformer {
    tokens: Tensor,
    positions: Tensor,
    blocks: Blocks,
    norm: LayerNorm,
    projection: Tensor,
}

impl TextTransformer {
    /// A network under `path`, for a configuration that passes [`TextTransformerConfig::check`].
    pub fn new(path: &nn::Path, config: &TextTransformerConfig) -> Self {
        let TextTransformerConfig { ref blocks, vocabulary, context, output } = *config;
        let width = blocks.width;
        let normal = |stdev: f64| Init::Randn { mean: 0.0, stdev };
        Self {
            tokens: (path / "token_embedding").var("weight", &[vocabulary, width], normal(0.02)),
            positions: path.var("positional_embedding", &[context, width], normal(0.01)),
            blocks: Blocks::new(path, blocks),
            norm: layer_norm(&(path / "ln_final"), width, blocks.norm_eps),
            projection: path.var("text_projection", &[width, output], normal((width as f64).powf(-0.5))),
        }
    }

    /// Features `[B, D]` of token ids i64 `[B, L]`, each below the vocabulary, L at most the context (77).
    ///
    /// The feature of a text is that of its end-of-text token: the first of its highest id. What follows does not matter, since a
    /// token sees only those before it; so texts may be padded with any id that is not higher.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        let length = ids.size()[1];
        let tokens = Tensor::embedding(&self.tokens, ids, -1, false, false) + self.positions.narrow(0, 0, length);
        let tokens = self.norm.forward(&self.blocks.forward(tokens, true));
        let end = ids.argmax(1, true).unsqueeze(-1).expand([-1, 1, tokens.size()[2]], false);
        tokens.gather(1, &end, false).squeeze_dim(1).matmul(&self.projection)
    }
}
