//! `config.json` of a text encoder, as the Hugging Face hub has it.

use serde_json::{Map, Value};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("it is not a JSON object")]
    Json(#[source] serde_json::Error),
    /// A field that has to be there is not.
    #[error("it has no field `{field}`")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// An architecture that is not built here.
    #[error("`model_type` is `{found}`: expected bert (MiniLM too), roberta, albert or mobilebert")]
    UnknownArchitecture {
        /// What the file says.
        found: String,
    },
    /// A field that holds something that cannot be, or is not supported.
    #[error("`{field}` is {found}: expected {expected}")]
    Value {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What would be right.
        expected: String,
    },
}

/// Non-linearity between the two linear layers of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`.
    Gelu,
    /// GELU by a hyperbolic tangent, as ALBERT was trained.
    GeluTanh,
    /// `max(x, 0)`, MobileBERT's.
    Relu,
}

/// What MobileBERT has beside a BERT layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    /// Whether layers work at `inner_width`, between a linear layer in and one out (`use_bottleneck`).
    pub narrow: bool,
    /// Width inside a layer: `intra_bottleneck_size`, or the outer width without bottlenecks.
    pub inner_width: i64,
    /// Whether queries, keys and values all come from the narrowed input (`use_bottleneck_attention`).
    pub narrow_values: bool,
    /// Whether queries and keys come from a bottleneck of their own (`key_query_shared_bottleneck`).
    pub shared_key_query: bool,
    /// Feed-forward blocks of a layer, 4 in the published network.
    pub feed_forwards: i64,
    /// Whether the embeddings of the neighbouring tokens are added to a token's (`trigram_input`).
    pub trigram: bool,
    /// Whether normalisation is `x w + b` without statistics (`no_norm`), not layer normalisation.
    pub no_norm: bool,
}

/// Kind of encoder.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// BERT; MiniLM is a small one.
    Bert,
    /// RoBERTa: BERT whose positions start behind the padding id.
    Roberta,
    /// ALBERT: layers in groups that share parameters.
    Albert {
        /// Groups (`num_hidden_groups`).
        groups: i64,
        /// Layers inside a group (`inner_group_num`).
        inner: i64,
    },
    /// MobileBERT.
    MobileBert(Bottleneck),
}

impl Architecture {
    /// `model_type` of the configuration, which is also the prefix of the weights of models with a head.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::Albert { .. } => "albert",
            Self::MobileBert(_) => "mobilebert",
        }
    }
}

/// Sizes of a text encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Kind of encoder.
    pub architecture: Architecture,
    /// Tokens of the vocabulary.
    pub vocabulary: i64,
    /// Width of a token's embedding; less than `width` in ALBERT and MobileBERT.
    pub embedding_width: i64,
    /// Width D of the hidden state.
    pub width: i64,
    /// Layers.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Inner width of a feed-forward block.
    pub feed_forward: i64,
    /// Non-linearity of the feed-forward blocks.
    pub activation: Activation,
    /// Rows of the position table.
    pub positions: i64,
    /// Rows of the token-type table, of which the first is used.
    pub types: i64,
    /// Added to the variance in layer normalisation.
    pub norm_eps: f64,
    /// Token id of padding.
    pub padding_id: i64,
}

impl TextConfig {
    /// Reads the text of a `config.json`. Sizes must be there; what older files leave out has the default of its architecture.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigError> {
        let fields = Fields(serde_json::from_slice(text).map_err(ConfigError::Json)?);
        let kind = fields.text("model_type", None)?;
        if !["bert", "roberta", "albert", "mobilebert"].contains(&kind.as_str()) {
            return Err(ConfigError::UnknownArchitecture { found: kind });
        }
        let width = fields.size("hidden_size", None)?;
        let layers = fields.size("num_hidden_layers", None)?;
        let (architecture, embedding_width, activation) = match kind.as_str() {
            "bert" => (Architecture::Bert, width, "gelu"),
            "roberta" => (Architecture::Roberta, width, "gelu"),
            "albert" => {
                let groups = fields.size("num_hidden_groups", Some(1))?;
                if groups > layers {
                    return Err(value("num_hidden_groups", groups, format!("at most the {layers} layers")));
                }
                let inner = fields.size("inner_group_num", Some(1))?;
                (Architecture::Albert { groups, inner }, fields.size("embedding_size", Some(128))?, "gelu_new")
            }
            "mobilebert" => {
                let bottleneck = fields.bottleneck(width)?;
                let embedding = fields.size("embedding_size", Some(128))?;
                (Architecture::MobileBert(bottleneck), embedding, "relu")
            }
            _ => return Err(ConfigError::UnknownArchitecture { found: kind }),
        };
        let activation = match fields.text("hidden_act", Some(activation))?.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(value("hidden_act", other, "gelu, gelu_new, gelu_pytorch_tanh or relu")),
        };
        let position_kind = fields.text("position_embedding_type", Some("absolute"))?;
        if position_kind != "absolute" {
            return Err(value("position_embedding_type", position_kind, "absolute"));
        }
        if fields.flag("is_decoder", false)? {
            return Err(value("is_decoder", true, "false: an encoder sees the whole text"));
        }
        let padding = if architecture == Architecture::Roberta { 1 } else { 0 };
        let config = Self {
            vocabulary: fields.size("vocab_size", None)?,
            embedding_width,
            width,
            layers,
            heads: fields.size("num_attention_heads", None)?,
            feed_forward: fields.size("intermediate_size", None)?,
            activation,
            positions: fields.size("max_position_embeddings", None)?,
            types: fields.size("type_vocab_size", Some(2))?,
            norm_eps: fields.positive("layer_norm_eps", 1e-12)?,
            padding_id: fields.index("pad_token_id", padding)?,
            architecture,
        };
        if config.padding_id >= config.vocabulary {
            return Err(value("pad_token_id", config.padding_id, format!("less than {}", config.vocabulary)));
        }
        let inner = config.attention_width();
        if inner % config.heads != 0 {
            return Err(value("num_attention_heads", config.heads, format!("a divisor of the width {inner}")));
        }
        if config.limit() < 3 {
            return Err(value("max_position_embeddings", config.positions, "room for three tokens or more"));
        }
        Ok(config)
    }

    /// The longest text in tokens, special ones counted: positions of RoBERTa start behind the padding id.
    pub fn limit(&self) -> usize {
        let first = if self.architecture == Architecture::Roberta { self.padding_id + 1 } else { 0 };
        usize::try_from(self.positions - first).unwrap_or(0)
    }

    /// Width of queries, keys and the output of attention.
    pub(super) fn attention_width(&self) -> i64 {
        match &self.architecture {
            Architecture::MobileBert(bottleneck) => bottleneck.inner_width,
            _ => self.width,
        }
    }
}

fn value(field: &'static str, found: impl std::fmt::Display, expected: impl Into<String>) -> ConfigError {
    ConfigError::Value { field, found: found.to_string(), expected: expected.into() }
}

/// The fields of the file; `null` counts as not there.
struct Fields(Map<String, Value>);

impl Fields {
    fn get(&self, field: &'static str) -> Option<&Value> {
        self.0.get(field).filter(|v| !v.is_null())
    }

    fn text(&self, field: &'static str, default: Option<&str>) -> Result<String, ConfigError> {
        match (self.get(field), default) {
            (Some(Value::String(text)), _) => Ok(text.clone()),
            (Some(other), _) => Err(value(field, other, "a string")),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(ConfigError::Missing { field }),
        }
    }

    fn index(&self, field: &'static str, default: i64) -> Result<i64, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(default) };
        found.as_i64().filter(|&v| v >= 0).ok_or_else(|| value(field, found, "a number of 0 or more"))
    }

    fn size(&self, field: &'static str, default: Option<i64>) -> Result<i64, ConfigError> {
        let Some(found) = self.get(field) else { return default.ok_or(ConfigError::Missing { field }) };
        // A bound that no network reaches keeps products of two sizes from overflowing.
        let whole = found.as_i64().filter(|v| (1..=1 << 30).contains(v));
        whole.ok_or_else(|| value(field, found, "a whole number of 1 or more"))
    }

    fn positive(&self, field: &'static str, default: f64) -> Result<f64, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(default) };
        found.as_f64().filter(|&v| v > 0.0).ok_or_else(|| value(field, found, "a number above 0"))
    }

    fn flag(&self, field: &'static str, default: bool) -> Result<bool, ConfigError> {
        let Some(found) = self.get(field) else { return Ok(default) };
        found.as_bool().ok_or_else(|| value(field, found, "true or false"))
    }

    fn bottleneck(&self, width: i64) -> Result<Bottleneck, ConfigError> {
        let narrow = self.flag("use_bottleneck", true)?;
        let inner_width = if narrow { self.size("intra_bottleneck_size", Some(128))? } else { width };
        let narrow_values = self.flag("use_bottleneck_attention", false)?;
        let shared_key_query = self.flag("key_query_shared_bottleneck", true)?;
        if narrow && !narrow_values && !shared_key_query && inner_width != width {
            let expected = "true, or use_bottleneck_attention: queries have to be as wide as the layer inside";
            return Err(value("key_query_shared_bottleneck", false, expected));
        }
        let no_norm = match self.text("normalization_type", Some("no_norm"))?.as_str() {
            "no_norm" => true,
            "layer_norm" => false,
            other => return Err(value("normalization_type", other, "no_norm or layer_norm")),
        };
        Ok(Bottleneck {
            narrow,
            inner_width,
            narrow_values,
            shared_key_query,
            feed_forwards: self.size("num_feedforward_networks", Some(4))?,
            trigram: self.flag("trigram_input", true)?,
            no_norm,
        })
    }
}
