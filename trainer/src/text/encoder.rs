//! The frozen encoder that training asks for the vectors of an image's annotated interactions.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::error::TextError;
use super::serialise::distinct;
use super::tokens::Tokens;
use crate::network::text::{TextConfig, TextNetwork, TextWeights};

/// Tokens that go through the network at once.
const TOKENS_PER_BATCH: usize = 4096;

/// How the vector of a sentence is made of its last hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's, `[CLS]` (RmLR).
    #[default]
    FirstToken,
    /// The mean over all its tokens, `[CLS]` and `[SEP]` counted, as MiniLM was trained.
    Mean,
}

/// What can be chosen about an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// How sentence vectors are made.
    pub pooling: Pooling,
    /// A smaller limit than the encoder's own, in tokens, special ones counted.
    pub limit: Option<usize>,
    /// Bytes of hidden states that are kept for the next time the same text comes, on the encoder's device.
    pub kept_bytes: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { pooling: Pooling::FirstToken, limit: None, kept_bytes: 1 << 29 }
    }
}

/// The vectors of an image's text. T: distinct sub-sentences, in the order in which they were first given.
#[derive(Debug)]
pub struct ImageText {
    /// E^w of eq. 8: a vector for every word (token) without `[CLS]`, `[SEP]` and padding, f32 `[N_w, D]`.
    pub words: Tensor,
    /// Of each word the distinct sub-sentence (row of `sentences`) that it belongs to.
    pub owner: Vec<usize>,
    /// E_cls of eq. 8: the vector of each distinct sub-sentence, read alone, f32 `[T, D]`. Those that were cut are here too.
    pub sentences: Tensor,
    /// Of each given sub-sentence its row in `sentences`.
    pub rows: Vec<usize>,
    /// Distinct sub-sentences at the end that `words` leaves out, because the joined text would pass the encoder's limit.
    pub cut: usize,
}

/// Token ids of a whole text, special ones included.
type Ids = Arc<[u32]>;

#[derive(Debug, Default)]
struct Kept {
    /// Tokens of sub-sentences.
    words: HashMap<String, Ids>,
    /// Hidden states `[L, D]` of whole texts.
    hidden: HashMap<Ids, Tensor>,
    bytes: usize,
}

/// Words that stand together in a text and belong to one sub-sentence.
struct Block {
    text: Ids,
    start: usize,
    length: usize,
    owner: usize,
}

/// What has to be encoded for one image.
struct Plan {
    rows: Vec<usize>,
    /// The distinct sub-sentences, each as a text of its own.
    alone: Vec<Ids>,
    blocks: Vec<Block>,
    cut: usize,
}

/// A frozen text encoder with its tokenizer, which remembers what it has encoded.
///
/// No text is padded: [`TextEncoder::encode_joined`] and [`TextEncoder::encode_apart`] read one text at a time, so that its vectors are
/// the same to the last bit whatever was read before (on one machine with one number of threads);
/// [`TextEncoder::encode_joined_many`] reads texts of equal length together, which moves the last digits with the company.
#[derive(Debug)]
pub struct TextEncoder {
    network: TextNetwork,
    tokens: Tokens,
    pooling: Pooling,
    limit: usize,
    kept_bytes: usize,
    kept: RefCell<Kept>,
}

impl TextEncoder {
    /// Loads an encoder from a folder as the Hugging Face hub has it: `config.json`; `model.safetensors` or `pytorch_model.bin`;
    /// `tokenizer.json`, `vocab.txt`, or `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    ///
    /// A file is missing, damaged, of an architecture that is not built here, or does not fit the others.
    pub fn load(folder: &Path, device: Device) -> Result<Self, TextError> {
        Self::load_with(folder, device, TextOptions::default())
    }

    /// Loads an encoder with options.
    ///
    /// # Errors
    ///
    /// As [`TextEncoder::load`]; and [`TextError::Limit`].
    pub fn load_with(folder: &Path, device: Device, options: TextOptions) -> Result<Self, TextError> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| TextError::Read { path: path.clone(), source })?;
        let config = TextConfig::from_json(&text).map_err(|source| TextError::Config { path, source })?;
        let own = config.limit();
        let limit = options.limit.unwrap_or(own);
        if !(3..=own).contains(&limit) {
            return Err(TextError::Limit { asked: limit, limit: own });
        }
        let tokens = Tokens::load(folder, &config)?;
        let weights = TextWeights::read(folder, &config.architecture)?;
        let network = TextNetwork::new(config, &weights, device)?;
        let TextOptions { pooling, kept_bytes, .. } = options;
        Ok(Self { network, tokens, pooling, limit, kept_bytes, kept: RefCell::default() })
    }

    /// Width D of the vectors.
    pub fn width(&self) -> i64 {
        self.network.config().width
    }

    /// The network, to be asked for the hidden states of any tokens.
    pub fn network(&self) -> &TextNetwork {
        &self.network
    }

    /// Token ids of the joined text of an image: `[CLS]`, then each distinct sub-sentence with a `[SEP]` behind it, as many as the limit
    /// allows; `[CLS]` `[SEP]` for none. One sub-sentence gives the ids of its text alone.
    ///
    /// # Errors
    ///
    /// As [`TextEncoder::encode_joined`].
    pub fn joined_ids(&self, sub_sentences: &[String]) -> Result<Vec<u32>, TextError> {
        let plan = self.plan(sub_sentences, true)?;
        let none = [self.tokens.first, self.tokens.separator];
        Ok(plan.blocks.first().map_or(none.to_vec(), |block| block.text.to_vec()))
    }

    /// The vectors of an image's sub-sentences, their words read in one joined text (RmLR's way). None: empty tensors.
    ///
    /// # Errors
    ///
    /// A sub-sentence has no word, or alone is longer than the limit.
    pub fn encode_joined(&self, sub_sentences: &[String]) -> Result<ImageText, TextError> {
        let plan = self.plan(sub_sentences, true)?;
        Ok(self.image_text(&plan, &self.hidden(std::slice::from_ref(&plan), 1)))
    }

    /// [`TextEncoder::encode_joined`] of many images: much faster than one by one, since equally long texts share a batch.
    ///
    /// # Errors
    ///
    /// As [`TextEncoder::encode_joined`]; the first image with an error counts.
    pub fn encode_joined_many(&self, images: &[Vec<String>]) -> Result<Vec<ImageText>, TextError> {
        let plans: Vec<Plan> = images.iter().map(|image| self.plan(image, true)).collect::<Result<_, _>>()?;
        let hidden = self.hidden(&plans, TOKENS_PER_BATCH);
        Ok(plans.iter().map(|plan| self.image_text(plan, &hidden)).collect())
    }

    /// The vectors of an image's sub-sentences, each read alone for its words too (`--text per-sentence`): nothing is cut, and no
    /// sub-sentence knows of the others. None: empty tensors.
    ///
    /// # Errors
    ///
    /// As [`TextEncoder::encode_joined`].
    pub fn encode_apart(&self, sub_sentences: &[String]) -> Result<ImageText, TextError> {
        let plan = self.plan(sub_sentences, false)?;
        Ok(self.image_text(&plan, &self.hidden(std::slice::from_ref(&plan), 1)))
    }

    fn plan(&self, sub_sentences: &[String], joined: bool) -> Result<Plan, TextError> {
        let (once, rows) = distinct(sub_sentences);
        let words = once.iter().map(|text| self.words_of(text)).collect::<Result<Vec<_>, _>>()?;
        let (first, separator) = (self.tokens.first, self.tokens.separator);
        let framed = |words: &Ids| [first].into_iter().chain(words.iter().copied()).chain([separator]).collect();
        let alone: Vec<Ids> = words.iter().map(framed).collect();
        if !joined {
            let block =
                |(owner, text): (usize, &Ids)| Block { text: text.clone(), start: 1, length: text.len() - 2, owner };
            let blocks = alone.iter().enumerate().map(block).collect();
            return Ok(Plan { rows, alone, blocks, cut: 0 });
        }
        let mut ids = vec![first];
        let mut places = Vec::new();
        for words in &words {
            if ids.len() + words.len() + 1 > self.limit {
                break;
            }
            places.push((ids.len(), words.len()));
            ids.extend(words.iter());
            ids.push(separator);
        }
        let text: Ids = ids.into();
        let cut = words.len() - places.len();
        let block = |(owner, (start, length))| Block { text: text.clone(), start, length, owner };
        let blocks = places.into_iter().enumerate().map(block).collect();
        Ok(Plan { rows, alone, blocks, cut })
    }

    /// The tokens of a sub-sentence, without special ones.
    fn words_of(&self, text: &str) -> Result<Ids, TextError> {
        if let Some(words) = self.kept.borrow().words.get(text) {
            return Ok(words.clone());
        }
        let words: Ids = self.tokens.words(text)?.into();
        if words.is_empty() {
            return Err(TextError::NoWords { text: text.to_owned() });
        }
        let tokens = words.len() + 2;
        if tokens > self.limit {
            return Err(TextError::TooLong { text: text.to_owned(), tokens, limit: self.limit });
        }
        self.kept.borrow_mut().words.insert(text.to_owned(), words.clone());
        Ok(words)
    }

    /// Hidden states `[L, D]` of all texts of the plans. A batch has at least one text, and no more than so many tokens.
    fn hidden(&self, plans: &[Plan], tokens_per_batch: usize) -> HashMap<Ids, Tensor> {
        let mut known = HashMap::new();
        let mut asked = HashSet::new();
        // By length, so that no padding is needed; in the order of the plans, so that batches are the same every time.
        let mut unknown: BTreeMap<usize, Vec<Ids>> = BTreeMap::new();
        let mut kept = self.kept.borrow_mut();
        for plan in plans {
            for text in plan.alone.iter().chain(plan.blocks.iter().map(|block| &block.text)) {
                if !asked.insert(text.clone()) {
                    continue;
                }
                match kept.hidden.get(text) {
                    Some(hidden) => _ = known.insert(text.clone(), hidden.shallow_clone()),
                    None => unknown.entry(text.len()).or_default().push(text.clone()),
                }
            }
        }
        for (length, texts) in unknown {
            for batch in texts.chunks((tokens_per_batch / length).max(1)) {
                let ids: Vec<i64> = batch.iter().flat_map(|text| text.iter().map(|&id| i64::from(id))).collect();
                let ids = Tensor::from_slice(&ids).view([-1, length as i64]).to_device(self.network.device());
                let states = self.network.forward(&ids, None);
                let bytes = length * self.width() as usize * size_of::<f32>();
                for (i, text) in batch.iter().enumerate() {
                    let hidden = states.get(i as i64);
                    if kept.bytes + bytes <= self.kept_bytes {
                        kept.bytes += bytes;
                        kept.hidden.insert(text.clone(), hidden.shallow_clone());
                    }
                    known.insert(text.clone(), hidden);
                }
            }
        }
        known
    }

    fn image_text(&self, plan: &Plan, hidden: &HashMap<Ids, Tensor>) -> ImageText {
        let pool = |text: &Ids| match self.pooling {
            Pooling::FirstToken => hidden[text].get(0),
            Pooling::Mean => hidden[text].mean_dim(0, false, Kind::Float),
        };
        let none = || Tensor::zeros([0, self.width()], (Kind::Float, self.network.device()));
        let sentences: Vec<Tensor> = plan.alone.iter().map(pool).collect();
        let words = |block: &Block| hidden[&block.text].narrow(0, block.start as i64, block.length as i64);
        let words: Vec<Tensor> = plan.blocks.iter().map(words).collect();
        ImageText {
            words: if words.is_empty() { none() } else { Tensor::cat(&words, 0) },
            owner: plan.blocks.iter().flat_map(|block| std::iter::repeat_n(block.owner, block.length)).collect(),
            sentences: if sentences.is_empty() { none() } else { Tensor::stack(&sentences, 0) },
            rows: plan.rows.clone(),
            cut: plan.cut,
        }
    }
}
