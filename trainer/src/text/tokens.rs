//! Texts as token ids.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::Tokenizer;

use super::error::TextError;
use crate::network::text::{Architecture, TextConfig};

/// A tokenizer, and the tokens that stand around and between sub-sentences.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// `[CLS]`, `<s>`.
    pub(super) first: u32,
    /// `[SEP]`, `</s>`.
    pub(super) separator: u32,
    vocabulary: i64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, separator, vocabulary, .. } = self;
        write!(f, "Tokens {{ first: {first}, separator: {separator}, vocabulary: {vocabulary} }}")
    }
}

impl Tokens {
    /// Reads `tokenizer.json`, or else what the architecture's older files are.
    pub(super) fn load(folder: &Path, config: &TextConfig) -> Result<Self, TextError> {
        let settings = Settings::read(folder)?;
        let mut tokenizer = match file(folder, "tokenizer.json") {
            Some(path) => Tokenizer::from_file(&path)
                .map_err(|e| TextError::Tokenizer { path, reason: format!("not a tokenizer: {e}") })?,
            None => from_vocabulary(folder, &config.architecture, &settings)?,
        };
        // Published files may pad or cut to a length of their own.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| TextError::Tokenizer { path: folder.to_owned(), reason: e.to_string() })?;
        let (first, separator) = match config.architecture {
            Architecture::Roberta => ("<s>", "</s>"),
            _ => ("[CLS]", "[SEP]"),
        };
        let special = |field: &str, default: &str, role: &'static str| -> Result<u32, TextError> {
            let token = settings.token(field).unwrap_or_else(|| default.to_owned());
            let id = tokenizer.token_to_id(&token);
            let id = id.ok_or(TextError::NoSpecialToken { folder: folder.to_owned(), token: token.clone(), role })?;
            known(id, &token, config.vocabulary)
        };
        Ok(Self {
            first: special("cls_token", first, "the beginning of a text")?,
            separator: special("sep_token", separator, "the end of a sub-sentence")?,
            vocabulary: config.vocabulary,
            tokenizer,
        })
    }

    /// The tokens of a text, without special ones around it.
    pub(super) fn words(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| TextError::Tokenize { text: text.to_owned(), reason: e.to_string() })?;
        encoding.get_ids().iter().map(|&id| known(id, text, self.vocabulary)).collect()
    }
}

fn known(id: u32, text: &str, vocabulary: i64) -> Result<u32, TextError> {
    if i64::from(id) < vocabulary {
        Ok(id)
    } else {
        Err(TextError::UnknownToken { text: text.to_owned(), id, vocabulary })
    }
}

fn file(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(name)).filter(|path| path.exists())
}

/// A tokenizer from the files that older models come with.
fn from_vocabulary(folder: &Path, architecture: &Architecture, settings: &Settings) -> Result<Tokenizer, TextError> {
    let missing = |expected| TextError::NoTokenizer { folder: folder.to_owned(), expected };
    let damaged = |path: &Path| {
        let path = path.to_owned();
        move |e: tokenizers::Error| TextError::Tokenizer { path, reason: format!("not a vocabulary: {e}") }
    };
    match architecture {
        Architecture::Bert | Architecture::MobileBert(_) => {
            let path = file(folder, "vocab.txt").ok_or_else(|| missing("tokenizer.json or vocab.txt"))?;
            let model = WordPiece::from_file(&path.to_string_lossy()).unk_token("[UNK]".to_owned());
            let mut tokenizer = Tokenizer::new(model.build().map_err(damaged(&path))?);
            let normalizer = BertNormalizer::new(
                true,
                settings.flag("tokenize_chinese_chars").unwrap_or(true),
                settings.flag("strip_accents"),
                settings.flag("do_lower_case").unwrap_or(true),
            );
            tokenizer.with_normalizer(Some(normalizer)).with_pre_tokenizer(Some(BertPreTokenizer));
            Ok(tokenizer)
        }
        Architecture::Roberta => {
            let files = file(folder, "vocab.json").zip(file(folder, "merges.txt"));
            let (vocabulary, merges) = files.ok_or_else(|| missing("tokenizer.json, or vocab.json and merges.txt"))?;
            let model = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy());
            let mut tokenizer = Tokenizer::new(model.build().map_err(damaged(folder))?);
            let blank_first = settings.flag("add_prefix_space").unwrap_or(false);
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(blank_first, true, true)));
            Ok(tokenizer)
        }
        Architecture::Albert { .. } => match file(folder, "spiece.model") {
            Some(path) => Err(TextError::SentencePieceOnly { path }),
            None => Err(missing("tokenizer.json")),
        },
    }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say; the first counts where both do.
struct Settings(Vec<Map<String, Value>>);

impl Settings {
    fn read(folder: &Path) -> Result<Self, TextError> {
        let mut found = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let Some(path) = file(folder, name) else { continue };
            let text = std::fs::read(&path).map_err(|source| TextError::Read { path: path.clone(), source })?;
            let fields = serde_json::from_slice(&text)
                .map_err(|e| TextError::Tokenizer { path, reason: format!("not a JSON object: {e}") })?;
            found.push(fields);
        }
        Ok(Self(found))
    }

    fn flag(&self, field: &str) -> Option<bool> {
        self.0.iter().find_map(|fields| fields.get(field)?.as_bool())
    }

    /// A token stands there as its text, or as an object that holds it.
    fn token(&self, field: &str) -> Option<String> {
        self.0.iter().find_map(|fields| {
            let token = fields.get(field)?;
            token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
        })
    }
}
