//! The tokenizer of CLIP: byte-level pairs of lower-cased words, whose last piece ends with `</w>`.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tch::Tensor;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{SplitDelimiterBehavior, Tokenizer};

use super::error::TextError;
use crate::network::clip::TextTransformerConfig;

/// The token before a text.
const START: &str = "<|startoftext|>";

/// The token behind a text, which has the highest id.
const END: &str = "<|endoftext|>";

/// What a word's last piece ends with.
const WORD_END: &str = "</w>";

/// Words of a lower-cased text: endings with an apostrophe, letters, single digits, other signs.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// OpenAI's list of merges, packed or not.
const MERGE_LISTS: [&str; 2] = ["bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt"];

/// What a folder may hold.
const EXPECTED: &str = "tokenizer.json, vocab.json and merges.txt, or bpe_simple_vocab_16e6.txt(.gz)";

/// Tokens that are no merges in OpenAI's vocabulary: the bytes inside and at the end of a word, start and end of a text.
const BESIDE_MERGES: usize = 2 * 256 + 2;

/// What happens to a text with more tokens than the network has positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlong {
    /// It is an error.
    #[default]
    Refuse,
    /// Its last tokens are left out; the one that ends it stays.
    Cut,
}

/// CLIP's tokenizer.
///
/// Texts are normalised (NFC), blanks joined and letters lower-cased. What OpenAI's code does before (repairing wrongly decoded text,
/// resolving HTML entities) is not done.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
    vocabulary: i64,
    context: usize,
    overlong: Overlong,
}

impl std::fmt::Debug for ClipTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { start, end, vocabulary, context, overlong, .. } = self;
        write!(
            f,
            "ClipTokenizer {{ start: {start}, end: {end}, vocabulary: {vocabulary}, context: {context}, overlong: {overlong:?} }}"
        )
    }
}

impl ClipTokenizer {
    /// Reads the tokenizer of a network: a folder's `tokenizer.json`, else its `vocab.json` and `merges.txt` (transformers), else
    /// OpenAI's `bpe_simple_vocab_16e6.txt`, packed with gzip or not; or a file, one of these (`.json`, `.gz`, `.txt`) or one of
    /// weights, which stands for its folder.
    ///
    /// # Errors
    /// There is none, it is damaged, or it has tokens that the network does not have.
    pub fn load(file_or_folder: &Path, config: &TextTransformerConfig) -> Result<Self, TextError> {
        let mut tokenizer = find(file_or_folder, config)?;
        let wrong = |reason: String| TextError::Tokenizer { path: file_or_folder.to_owned(), reason };
        // Published files may pad or cut to a length of their own.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| wrong(e.to_string()))?;
        let special = |token: &str, role: &'static str| {
            tokenizer.token_to_id(token).ok_or_else(|| TextError::NoSpecialToken {
                folder: file_or_folder.to_owned(),
                token: token.to_owned(),
                role,
            })
        };
        let (start, end) = (special(START, "the beginning of a text")?, special(END, "the end of a text")?);
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or(end);
        if highest != end {
            return Err(wrong(format!(
                "`{END}` has the id {end}, and there is one of {highest}: expected it to be the highest"
            )));
        }
        if i64::from(end) >= config.vocabulary {
            return Err(TextError::UnknownToken { text: END.to_owned(), id: end, vocabulary: config.vocabulary });
        }
        let context = usize::try_from(config.context).unwrap_or(0);
        Ok(Self { tokenizer, start, end, vocabulary: config.vocabulary, context, overlong: Overlong::Refuse })
    }

    /// With another way for texts that are too long.
    pub fn with_overlong(self, overlong: Overlong) -> Self {
        Self { overlong, ..self }
    }

    /// Token ids of a text, those of its start and end counted; at most the network's context.
    ///
    /// # Errors
    /// The text is too long, unless it may be cut.
    pub fn ids(&self, text: &str) -> Result<Vec<i64>, TextError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| TextError::Tokenize { text: text.to_owned(), reason: e.to_string() })?;
        let words = encoding.get_ids();
        if let Some(&id) = words.iter().find(|&&id| i64::from(id) >= self.vocabulary) {
            return Err(TextError::UnknownToken { text: text.to_owned(), id, vocabulary: self.vocabulary });
        }
        let room = self.context.saturating_sub(2);
        if words.len() > room && self.overlong == Overlong::Refuse {
            return Err(TextError::TooLong { text: text.to_owned(), tokens: words.len() + 2, limit: self.context });
        }
        let words = words.iter().take(room).copied();
        Ok(std::iter::once(self.start).chain(words).chain([self.end]).map(i64::from).collect())
    }

    /// Token ids i64 `[B, L]` of texts, L that of the longest; behind the others' ends stand zeros, as OpenAI has it.
    ///
    /// # Errors
    /// As [`ClipTokenizer::ids`].
    pub fn batch(&self, texts: &[impl AsRef<str>]) -> Result<Tensor, TextError> {
        let rows = texts.iter().map(|text| self.ids(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        let padded = rows.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, length - row.len())));
        Ok(Tensor::from_slice(&padded.collect::<Vec<_>>()).view([rows.len() as i64, length as i64]))
    }
}

fn find(path: &Path, config: &TextTransformerConfig) -> Result<Tokenizer, TextError> {
    let hub = |path: PathBuf| {
        Tokenizer::from_file(&path).map_err(|e| TextError::Tokenizer { path, reason: format!("not a tokenizer: {e}") })
    };
    if !path.is_dir() {
        let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
        match extension.as_deref() {
            Some("json") => return hub(path.to_owned()),
            Some("gz" | "txt") => return openai(path, config),
            _ => {}
        }
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let file = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
    if let Some(path) = file("tokenizer.json") {
        return hub(path);
    }
    if let Some((vocabulary, merges)) = file("vocab.json").zip(file("merges.txt")) {
        return around(BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy()), folder);
    }
    match MERGE_LISTS.iter().find_map(|name| file(name)) {
        Some(path) => openai(&path, config),
        None => Err(TextError::NoTokenizer { folder: folder.to_owned(), expected: EXPECTED }),
    }
}

/// From OpenAI's list: the first line is a title, a merge each of the following, of which those count that the vocabulary has room
/// for.
fn openai(path: &Path, config: &TextTransformerConfig) -> Result<Tokenizer, TextError> {
    let read = |source| TextError::Read { path: path.to_owned(), source };
    let wrong = |reason: String| TextError::Tokenizer { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(read)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&bytes[..]).read_to_string(&mut text)
    } else {
        (&bytes[..]).read_to_string(&mut text)
    }
    .map_err(|e| wrong(format!("not a list of merges: {e}")))?;
    let needed = usize::try_from(config.vocabulary).unwrap_or(0).saturating_sub(BESIDE_MERGES);
    let mut merges = Vec::with_capacity(needed);
    for (number, line) in text.lines().enumerate().skip(1).take(needed) {
        let pair = line.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '));
        let (a, b) = pair.ok_or_else(|| wrong(format!("line {}: expected two pieces, found `{line}`", number + 1)))?;
        merges.push((a.to_owned(), b.to_owned()));
    }
    if merges.len() < needed {
        let (found, vocabulary) = (merges.len(), config.vocabulary);
        return Err(wrong(format!("it has {found} merges, and the network's {vocabulary} tokens need {needed}")));
    }
    let letters = byte_letters();
    let bytes = letters.iter().map(|letter| letter.to_string());
    let ends = letters.iter().map(|letter| format!("{letter}{WORD_END}"));
    let merged = merges.iter().map(|(a, b)| format!("{a}{b}"));
    let tokens = bytes.chain(ends).chain(merged).chain([START.to_owned(), END.to_owned()]);
    let vocabulary: Vocab = tokens.zip(0..).collect();
    around(BPE::builder().vocab_and_merges(vocabulary, merges), path)
}

/// The letters that stand for bytes, in OpenAI's order: first the bytes that are printed as they are, then the others, which have the
/// letters from 256 on.
fn byte_letters() -> Vec<char> {
    let printed = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..256u32).filter(|byte| !printed(byte)).count() as u32;
    (0..256u32).filter(printed).chain(256..256 + others).filter_map(char::from_u32).collect()
}

/// The steps around the merges.
fn around(model: BpeBuilder, path: &Path) -> Result<Tokenizer, TextError> {
    let wrong =
        |e: tokenizers::Error| TextError::Tokenizer { path: path.to_owned(), reason: format!("not a vocabulary: {e}") };
    let model = model.unk_token(END.to_owned()).end_of_word_suffix(WORD_END.to_owned()).build().map_err(wrong)?;
    let mut tokenizer = Tokenizer::new(model);
    let blanks = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(wrong)?;
    let words =
        Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true).map_err(wrong)?;
    tokenizer
        .with_normalizer(Some(Normalizers::new(vec![
            NormalizerWrapper::NFC(NFC),
            NormalizerWrapper::Replace(blanks),
            NormalizerWrapper::Lowercase(Lowercase),
        ])))
        .with_pre_tokenizer(Some(PreTokenizers::new(vec![
            PreTokenizerWrapper::Split(words),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)),
        ])));
    Ok(tokenizer)
}
