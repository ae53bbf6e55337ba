//! What can go wrong with a text encoder.

use std::path::PathBuf;

use crate::network::text::{ConfigError, WeightsError};

/// Why a text encoder cannot be loaded, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// `config.json` is not one of a supported encoder.
    #[error("{} describes no encoder that is built here", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The weights do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// There is no tokenizer.
    #[error("{} holds no tokenizer: expected {expected}", folder.display())]
    NoTokenizer {
        /// Where it was looked for.
        folder: PathBuf,
        /// Files of which one would do.
        expected: &'static str,
    },
    /// There is a SentencePiece model only.
    #[error(
        "{} is a SentencePiece model, which is not read here: write tokenizer.json beside it with Python: from transformers \
         import AutoTokenizer; AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        path.display()
    )]
    SentencePieceOnly {
        /// The file.
        path: PathBuf,
    },
    /// A tokenizer's file is damaged, or cannot be used.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file, or the folder with several.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The vocabulary lacks a token that texts are framed with.
    #[error("the tokenizer in {} has no token `{token}`, which stands for {role}", folder.display())]
    NoSpecialToken {
        /// Where the tokenizer is.
        folder: PathBuf,
        /// The token.
        token: String,
        /// What it is needed for.
        role: &'static str,
    },
    /// A token that the network has no embedding of.
    #[error(
        "`{text}` has the token {id}, and the network knows {vocabulary}: do tokenizer and config.json belong together?"
    )]
    UnknownToken {
        /// The text.
        text: String,
        /// The token's number.
        id: u32,
        /// Tokens of the network.
        vocabulary: i64,
    },
    /// The tokenizer refused a text.
    #[error("cannot cut `{text}` into tokens: {reason}")]
    Tokenize {
        /// The text.
        text: String,
        /// What the tokenizer says.
        reason: String,
    },
    /// A sub-sentence without words.
    #[error("the tokenizer finds no word in the sub-sentence `{text}`")]
    NoWords {
        /// The text.
        text: String,
    },
    /// A sub-sentence that alone is longer than the encoder's limit.
    #[error("`{text}` has {tokens} tokens with the two around it, and the encoder's limit is {limit}")]
    TooLong {
        /// The text.
        text: String,
        /// Its tokens, `[CLS]` and `[SEP]` counted.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// The option for a smaller limit asks for more than the encoder has, or for too little.
    #[error("a limit of {asked} tokens cannot be set: expected 3 to {limit}, the encoder's own")]
    Limit {
        /// What was asked for.
        asked: usize,
        /// What the encoder has.
        limit: usize,
    },
}
