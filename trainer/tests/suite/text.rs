//! Text encoders: what `trainer/reference/text.py` computed with transformers, the text of an image, and bad folders.

use std::path::{Path, PathBuf};

use hoi_trainer::network::text::{ConfigError, TextConfig, WeightsError};
use hoi_trainer::text::{ImageText, Pooling, TextEncoder, TextError, TextOptions, sub_sentence};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-4;
const NAMES: [&str; 6] = ["bert", "roberta", "albert", "mobilebert", "mobilebert-layer-norm", "mobilebert-wide"];

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/text").join(name)
}

fn load(folder: &Path) -> TextEncoder {
    TextEncoder::load(folder, Device::Cpu).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

/// Largest difference; infinite where shapes differ.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    match a.numel() {
        _ if a.size() != b.size() => f64::INFINITY,
        0 => 0.0,
        _ => (a - b).abs().max().double_value(&[]),
    }
}

fn near(found: &Tensor, expected: &Tensor, what: &str) {
    let difference = difference(found, expected);
    assert!(difference < TOLERANCE, "{what}: {difference} ({:?}, expected {:?})", found.size(), expected.size());
}

/// A folder of its own with these files of the reference's folder.
fn copy(name: &str, files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(reference(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Bits of an image's text.
fn same(a: &ImageText, b: &ImageText) -> bool {
    a.words == b.words && a.sentences == b.sentences && (&a.owner, &a.rows, a.cut) == (&b.owner, &b.rows, b.cut)
}

#[test]
fn every_architecture_agrees_with_the_reference() {
    for name in NAMES {
        let folder = reference(name);
        let images = json(&folder.join("expected.json"));
        let mut tensors: std::collections::HashMap<_, _> =
            Tensor::read_safetensors(folder.join("expected.safetensors")).unwrap().into_iter().collect();
        let mut expected = |key: &str| tensors.remove(key).unwrap();
        let encoder = load(&folder);
        let mean = TextOptions { pooling: Pooling::Mean, ..TextOptions::default() };
        let mean = TextEncoder::load_with(&folder, Device::Cpu, mean).unwrap();
        assert_eq!(encoder.width(), 16, "{name}");
        let images = images.as_array().unwrap();
        assert_eq!(images.len(), 4, "{name}");
        for (i, image) in images.iter().enumerate() {
            let texts = strings(&image["texts"]);
            let what = format!("{name}, image {i}");
            assert_eq!(serde_json::json!(encoder.joined_ids(&texts).unwrap()), image["ids"], "{what}");
            let joined = encoder.encode_joined(&texts).unwrap();
            assert_eq!(serde_json::json!(joined.owner), image["owner"], "{what}");
            assert_eq!(joined.cut, 0, "{what}");
            near(&joined.words, &expected(&format!("words.{i}")), &format!("{what}, words"));
            near(&joined.sentences, &expected(&format!("first.{i}")), &format!("{what}, first tokens"));
            let mean = mean.encode_joined(&texts).unwrap();
            near(&mean.sentences, &expected(&format!("mean.{i}")), &format!("{what}, means"));
            let apart = encoder.encode_apart(&texts).unwrap();
            near(&apart.words, &expected(&format!("apart.{i}")), &format!("{what}, words apart"));
            assert_eq!((apart.owner, apart.rows), (joined.owner, joined.rows), "{what}");
            near(&apart.sentences, &joined.sentences, &what);
            // Each sub-sentence alone, in the order in which they first come.
            let mut once = Vec::new();
            once.extend(texts.iter().enumerate().filter(|&(k, text)| !texts[..k].contains(text)).map(|(_, text)| text));
            let alone: Vec<_> =
                once.iter().map(|&text| encoder.joined_ids(std::slice::from_ref(text)).unwrap()).collect();
            assert_eq!(serde_json::json!(alone), image["alone"], "{what}");
        }
        let (ids, seen) = (expected("padded.ids"), expected("padded.seen").to_kind(Kind::Bool));
        assert!(seen.logical_not().any().int64_value(&[]) == 1, "{name}: no padding is tested");
        let hidden = encoder.network().forward(&ids, Some(&seen.logical_not()));
        assert!(!hidden.requires_grad());
        let seen = seen.unsqueeze(-1).to_kind(Kind::Float);
        near(&(hidden * &seen), &(expected("padded.hidden") * &seen), &format!("{name}, padded"));
    }
}

#[test]
fn vocabulary_files_give_the_tokens_of_tokenizer_json() {
    let cases = [
        ("bert", ["config.json", "model.safetensors", "vocab.txt"].as_slice()),
        ("mobilebert", &["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]),
        ("roberta", &["config.json", "model.safetensors", "vocab.json", "merges.txt"]),
    ];
    for (name, files) in cases {
        let folder = copy(name, files);
        let (old, new) = (load(folder.path()), load(&reference(name)));
        for text in ["human ride bicycle", "Human ride Café", "human eat 2 pizzas!", "human juggle \u{2602}"] {
            let text = texts(&[text, "human hold cup"]);
            assert_eq!(old.joined_ids(&text).unwrap(), new.joined_ids(&text).unwrap(), "{name}: {text:?}");
        }
    }
    // A cased vocabulary keeps capitals, which this one does not have: [UNK].
    let folder = copy("bert", &["config.json", "model.safetensors", "vocab.txt"]);
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"do_lower_case": false}"#).unwrap();
    let ids = load(folder.path()).joined_ids(&texts(&["Human ride"])).unwrap();
    assert_eq!((ids[1], ids.len()), (1, 4));
}

#[test]
fn weights_of_models_with_a_head_and_old_names_load() {
    for (name, prefix) in
        [("bert", "bert."), ("roberta", "roberta."), ("albert", "albert."), ("mobilebert", "mobilebert.")]
    {
        let tokenizer = if name == "bert" { "vocab.txt" } else { "tokenizer.json" };
        let folder = copy(name, &["config.json", tokenizer]);
        let tensors = Tensor::read_safetensors(reference(name).join("model.safetensors")).unwrap();
        let old = |key: String| match key.rsplit_once("LayerNorm.") {
            Some((place, "weight")) => format!("{place}LayerNorm.gamma"),
            Some((place, "bias")) => format!("{place}LayerNorm.beta"),
            _ => key,
        };
        let mut tensors: Vec<_> = tensors.into_iter().map(|(key, t)| (format!("{prefix}{}", old(key)), t)).collect();
        tensors.push(("cls.predictions.bias".to_owned(), Tensor::zeros([3], (Kind::Float, Device::Cpu))));
        Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
        let text = texts(&["human hold cup", "human ride bicycle"]);
        let (plain, headed) = (load(&reference(name)), load(folder.path()));
        assert!(same(&plain.encode_joined(&text).unwrap(), &headed.encode_joined(&text).unwrap()), "{name}");

        // Half precision is read as f32: the same up to the rounding of the weights.
        let half: Vec<_> = tensors.iter().map(|(key, t)| (key.clone(), t.to_kind(Kind::Half))).collect();
        Tensor::write_safetensors(&half, folder.path().join("model.safetensors")).unwrap();
        let words = load(folder.path()).encode_joined(&text).unwrap().words;
        let difference = difference(&words, &plain.encode_joined(&text).unwrap().words);
        assert!(difference > 0.0 && difference < 0.05, "{name}: {difference}");
    }
}

#[test]
fn a_pickle_of_a_plain_dict_loads() {
    let folder = copy("bert", &["config.json", "tokenizer.json", "pytorch_model.bin"]);
    let text = texts(&["human hold cup", "human ride bicycle"]);
    let (pickle, safetensors) = (load(folder.path()), load(&reference("bert")));
    assert!(same(&pickle.encode_joined(&text).unwrap(), &safetensors.encode_joined(&text).unwrap()));
}

#[test]
fn a_sub_sentence_has_blanks_for_underscores() {
    for (verb, object, expected) in [
        ("ride", "bicycle", "human ride bicycle"),
        ("sit_on", "dining_table", "human sit on dining table"),
        ("no_interaction", "sports ball", "human no interaction sports ball"),
        ("walk", "", "human walk"),
        ("_hold ", " cup_", "human hold cup"),
    ] {
        assert_eq!(sub_sentence(verb, object), expected);
    }
}

#[test]
fn the_text_of_an_image() {
    let encoder = load(&reference("bert"));
    // "human ride bi ##cycle" and "human hold bi ##cycle" by the tiny vocabulary, whose "bi" is two letters: 5 words, 8 words.
    let (ride, hold) = (sub_sentence("ride", "bicycle"), sub_sentence("hold", "bicycle"));
    let one = encoder.encode_joined(std::slice::from_ref(&ride)).unwrap();
    assert_eq!((one.words.size(), &one.owner), (vec![5, 16], &vec![0; 5]));
    // One pair with two verbs: two sub-sentences, their words in order.
    let two = encoder.encode_joined(&[ride.clone(), hold.clone()]).unwrap();
    assert_eq!((two.words.size(), two.owner), (vec![13, 16], [vec![0; 5], vec![1; 8]].concat()));
    assert_eq!((two.rows, two.sentences.size(), two.cut), (vec![0, 1], vec![2, 16], 0));
    // In one text they know of each other, apart they do not; the sentence vector is the same.
    let apart = encoder.encode_apart(&[ride.clone(), hold.clone()]).unwrap();
    assert!(difference(&two.words.narrow(0, 0, 5), &one.words) > 0.01);
    near(&apart.words.narrow(0, 0, 5), &one.words, "apart");
    near(&two.sentences.get(0), &one.sentences.get(0), "sentence");
    // Two pairs with the same triplet: written once, both point to it.
    let twice = encoder.encode_joined(&[ride.clone(), hold.clone(), ride.clone()]).unwrap();
    assert_eq!((twice.rows, twice.sentences.size(), twice.cut), (vec![0, 1, 0], vec![2, 16], 0));
    assert_eq!(twice.words, two.words);
    // No annotated triplet.
    for none in [encoder.encode_joined(&[]), encoder.encode_apart(&[])].map(Result::unwrap) {
        assert_eq!((none.words.size(), none.sentences.size()), (vec![0, 16], vec![0, 16]));
        assert!(none.owner.is_empty() && none.rows.is_empty() && none.cut == 0);
    }
    assert!(encoder.encode_joined_many(&[]).unwrap().is_empty());
}

#[test]
fn a_joined_text_over_the_limit_is_cut_at_a_sub_sentence() {
    let folder = reference("bert");
    let with_limit = |limit| {
        TextEncoder::load_with(&folder, Device::Cpu, TextOptions { limit: Some(limit), ..TextOptions::default() })
    };
    // Words: 5, 8, 5. [CLS] and the first with its [SEP] are 7 tokens, with the second 16, with the third 22.
    let (ride, hold, cup) =
        (sub_sentence("ride", "bicycle"), sub_sentence("hold", "bicycle"), sub_sentence("ride", "cup"));
    let image = [ride.clone(), hold, ride.clone(), cup];
    let found = [10, 15, 16, 21, 22].map(|limit| {
        let text = with_limit(limit).unwrap().encode_joined(&image).unwrap();
        // What is cut has a sentence vector all the same.
        assert_eq!((text.sentences.size(), text.rows), (vec![3, 16], vec![0, 1, 0, 2]));
        (text.words.size()[0], text.owner.last().copied(), text.cut)
    });
    // 15 would hold the third behind the first, but a text is cut, not picked from.
    assert_eq!(found, [(5, Some(0), 2), (5, Some(0), 2), (13, Some(1), 1), (13, Some(1), 1), (18, Some(2), 0)]);
    // Apart, nothing has to be cut.
    let apart = with_limit(10).unwrap().encode_apart(&image).unwrap();
    assert_eq!((apart.words.size()[0], apart.cut), (18, 0));
    // The encoder's own limit, 80 tokens: 1 + 6 k for k sub-sentences of 5 words, so 13 of 15.
    let many: Vec<String> = ('a'..='o').map(|letter| format!("human ride a b {letter}")).collect();
    let text = load(&folder).encode_joined(&many).unwrap();
    assert_eq!((text.words.size()[0], text.sentences.size()[0], text.cut), (65, 15, 2));
    // RoBERTa's positions start behind the padding id 1: two rows of its 82 are lost.
    assert_eq!(load(&reference("roberta")).network().config().limit(), 80);

    // A sub-sentence that alone does not fit; a limit that cannot be.
    let error = with_limit(9).unwrap().encode_joined(&image).unwrap_err();
    assert!(
        matches!(error, TextError::TooLong { ref text, tokens: 10, limit: 9 } if text == "human hold bicycle"),
        "{error}"
    );
    for asked in [0, 2, 81] {
        let error = with_limit(asked).unwrap_err();
        assert!(matches!(error, TextError::Limit { limit: 80, .. }), "{error}");
    }
}

#[test]
fn many_images_at_once_give_what_one_by_one_gives() {
    for name in ["bert", "mobilebert", "roberta"] {
        let folder = reference(name);
        let images: Vec<Vec<String>> = vec![
            texts(&["human ride bicycle", "human hold cup"]),
            vec![],
            texts(&["human hold cup", "human ride bicycle"]),
            texts(&["human ride bicycle"]),
            texts(&["human ride bicycle", "human hold cup"]),
            texts(&["human eat pizza", "human sit on dining table", "human eat pizza"]),
        ];
        let (all, one) = (load(&folder), load(&folder));
        let many = all.encode_joined_many(&images).unwrap();
        assert_eq!(many.len(), images.len());
        for (found, image) in many.iter().zip(&images) {
            let expected = one.encode_joined(image).unwrap();
            near(&found.words, &expected.words, name);
            near(&found.sentences, &expected.sentences, name);
            assert_eq!((&found.owner, &found.rows, found.cut), (&expected.owner, &expected.rows, expected.cut));
            // What is remembered, and what is computed again by the same calls, is the same to the last bit.
            assert!(same(&all.encode_joined(image).unwrap(), found), "{name}");
        }
        let forgetful = TextOptions { kept_bytes: 0, ..TextOptions::default() };
        let forgetful = TextEncoder::load_with(&folder, Device::Cpu, forgetful).unwrap();
        for _ in 0..2 {
            let again = forgetful.encode_joined_many(&images).unwrap();
            assert!(again.iter().zip(&many).all(|(a, b)| same(a, b)), "{name}");
        }
    }
}

#[test]
fn what_was_read_before_changes_no_bit() {
    let folder = reference("bert");
    let (image, other) =
        (texts(&["human ride bicycle", "human ride cup"]), texts(&["human ride horse", "human ride cup"]));
    let (early, late) = (load(&folder), load(&folder));
    let expected = [early.encode_joined(&image).unwrap(), early.encode_apart(&image).unwrap()];
    late.encode_joined(&other).unwrap();
    late.encode_apart(&other).unwrap();
    assert!(same(&late.encode_joined(&image).unwrap(), &expected[0]));
    assert!(same(&late.encode_apart(&image).unwrap(), &expected[1]));
}

#[test]
fn a_text_without_words_is_refused() {
    let encoder = load(&reference("bert"));
    for blank in ["", "  "] {
        let error = encoder.encode_joined(&texts(&["human ride bicycle", blank])).unwrap_err();
        assert!(matches!(error, TextError::NoWords { ref text } if text == blank), "{error}");
    }
}

#[test]
fn bad_folders_say_what_is_wrong() {
    let complete = ["config.json", "model.safetensors", "tokenizer.json"];
    let refused = |folder: &tempfile::TempDir| TextEncoder::load(folder.path(), Device::Cpu).unwrap_err();
    let write =
        |folder: &tempfile::TempDir, name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();

    assert!(matches!(refused(&copy("bert", &[])), TextError::Read { path, .. } if path.ends_with("config.json")));

    let folder = copy("bert", &complete);
    write(&folder, "config.json", r#"{"model_type": "bert"}"#);
    let error = refused(&folder);
    assert!(
        matches!(&error, TextError::Config { source: ConfigError::Missing { field: "hidden_size" }, .. }),
        "{error}"
    );

    for (name, files) in [("bert", complete.as_slice()), ("albert", &complete[..2])] {
        let folder = copy(name, &files[..2]);
        let error = refused(&folder);
        assert!(
            matches!(&error, TextError::NoTokenizer { .. }) && error.to_string().contains("tokenizer.json"),
            "{error}"
        );
    }
    let folder = copy("roberta", &["config.json", "model.safetensors", "vocab.json"]);
    assert!(refused(&folder).to_string().contains("merges.txt"));
    let folder = copy("albert", &complete[..2]);
    write(&folder, "spiece.model", "any");
    let error = refused(&folder);
    assert!(
        matches!(&error, TextError::SentencePieceOnly { .. }) && error.to_string().contains("save_pretrained"),
        "{error}"
    );
    for (name, file, text) in
        [("bert", "tokenizer.json", "{}"), ("bert", "tokenizer_config.json", "["), ("roberta", "tokenizer.json", "")]
    {
        let folder = copy(name, &complete);
        write(&folder, file, text);
        let error = refused(&folder);
        assert!(matches!(&error, TextError::Tokenizer { path, .. } if path.ends_with(file)), "{error}");
    }
    // A tokenizer of another architecture, and one with more tokens than the network.
    let folder = copy("roberta", &["config.json", "model.safetensors"]);
    std::fs::copy(reference("bert").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let error = refused(&folder);
    assert!(matches!(&error, TextError::NoSpecialToken { token, .. } if token == "<s>"), "{error}");
    let folder = copy("bert", &["config.json", "model.safetensors", "vocab.txt"]);
    let vocabulary = std::fs::read_to_string(reference("bert").join("vocab.txt")).unwrap();
    write(&folder, "vocab.txt", &format!("{vocabulary}giraffe\n"));
    let encoder = load(folder.path());
    let error = encoder.encode_apart(&texts(&["human ride giraffe"])).unwrap_err();
    assert!(matches!(&error, TextError::UnknownToken { id: 56, vocabulary: 56, .. }), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let folder = copy("bert", &["config.json", "tokenizer.json"]);
    let refused = || match TextEncoder::load(folder.path(), Device::Cpu) {
        Err(TextError::Weights(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(), WeightsError::Absent { .. }));
    std::fs::write(folder.path().join("pytorch_model.bin"), b"\x80\x02}q\x00.").unwrap();
    let error = refused();
    assert!(matches!(&error, WeightsError::Pickle { .. }) && error.to_string().contains("save_pretrained"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");

    let path = folder.path().join("model.safetensors");
    let source = std::fs::read(reference("bert").join("model.safetensors")).unwrap();
    std::fs::write(&path, &source[..source.len() / 2]).unwrap();
    assert!(matches!(refused(), WeightsError::Read { .. }));

    let key = "encoder.layer.1.attention.output.dense.bias";
    let with = |replacement: Option<Tensor>| {
        let mut tensors = Tensor::read_safetensors(reference("bert").join("model.safetensors")).unwrap();
        let count = tensors.len();
        tensors.retain(|(name, _)| name != key);
        assert_eq!(tensors.len(), count - 1);
        tensors.extend(replacement.map(|tensor| (key.to_owned(), tensor)));
        Tensor::write_safetensors(&tensors, &path).unwrap();
    };
    with(None);
    let error = refused();
    assert!(matches!(&error, WeightsError::Missing { name, prefix: "bert", .. } if name == key), "{error}");
    with(Some(Tensor::zeros([15], (Kind::Float, Device::Cpu))));
    let error = refused();
    assert!(
        matches!(&error, WeightsError::Shape { found, expected, .. } if (&found[..], &expected[..]) == (&[15], &[16])),
        "{error}"
    );
    with(Some(Tensor::zeros([16], (Kind::Int64, Device::Cpu))));
    assert!(matches!(refused(), WeightsError::Kind { found: Kind::Int64, .. }));
}

#[test]
fn configurations_are_checked() {
    let original = json(&reference("bert").join("config.json"));
    let read = |config: &Value| TextConfig::from_json(config.to_string().as_bytes());
    let plain = read(&original).unwrap();
    for (field, value) in [
        ("hidden_act", "swish".into()),
        ("hidden_size", 0.into()),
        ("hidden_size", (-16).into()),
        ("num_hidden_layers", 1.5.into()),
        ("num_attention_heads", 3.into()),
        ("layer_norm_eps", 0.into()),
        ("layer_norm_eps", "1e-12".into()),
        ("pad_token_id", 56.into()),
        ("max_position_embeddings", 2.into()),
        ("position_embedding_type", "relative_key".into()),
        ("is_decoder", true.into()),
    ] {
        let mut config = original.clone();
        config[field] = value;
        let error = read(&config).unwrap_err();
        assert!(matches!(&error, ConfigError::Value { field: found, .. } if *found == field), "{field}: {error}");
    }
    for field in [
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ] {
        let mut config = original.clone();
        config.as_object_mut().unwrap().remove(field);
        let error = read(&config).unwrap_err();
        assert!(matches!(&error, ConfigError::Missing { field: found } if *found == field), "{field}: {error}");
    }
    let mut config = original.clone();
    config["model_type"] = "gpt2".into();
    assert!(matches!(read(&config), Err(ConfigError::UnknownArchitecture { found }) if found == "gpt2"));
    assert!(matches!(TextConfig::from_json(b"[]"), Err(ConfigError::Json(_))));
    // Older files leave these out.
    let mut config = original.clone();
    for field in ["hidden_act", "is_decoder", "type_vocab_size", "pad_token_id"] {
        config.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(read(&config).unwrap(), plain);

    let mut albert = json(&reference("albert").join("config.json"));
    albert["num_hidden_groups"] = 5.into();
    assert!(matches!(read(&albert), Err(ConfigError::Value { field: "num_hidden_groups", .. })));
    let mut mobile = json(&reference("mobilebert").join("config.json"));
    mobile["key_query_shared_bottleneck"] = false.into();
    assert!(matches!(read(&mobile), Err(ConfigError::Value { field: "key_query_shared_bottleneck", .. })));
}

#[test]
fn minilm_has_the_similarities_that_transformers_computes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.text-encoder");
    if !folder.exists() {
        eprintln!("not run: there is no .text-encoder (trainer/setup-text-encoder fetches it)");
        return;
    }
    let expected = json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/text/minilm.json"));
    let sentences = strings(&expected["sentences"]);
    let encoder = load(&folder);
    for (i, text) in sentences.iter().enumerate() {
        assert_eq!(serde_json::json!(encoder.joined_ids(std::slice::from_ref(text)).unwrap()), expected["ids"][i]);
    }
    let rows = |field: &str| {
        let rows: Vec<Vec<f64>> = serde_json::from_value(expected[field].clone()).unwrap();
        Tensor::from_slice2(&rows).to_kind(Kind::Float)
    };
    let first = encoder.encode_joined(&sentences).unwrap();
    assert_eq!((first.sentences.size(), first.words.size()[1]), (vec![sentences.len() as i64, 384], 384));
    near(&first.sentences.narrow(1, 0, 4), &rows("first_token"), "first tokens");
    let mean = TextOptions { pooling: Pooling::Mean, ..TextOptions::default() };
    let mean = TextEncoder::load_with(&folder, Device::Cpu, mean).unwrap();
    let vectors = mean.encode_apart(&sentences).unwrap().sentences;
    let length = vectors.norm_scalaropt_dim(2, [1], true);
    let vectors = vectors / length;
    near(&vectors.matmul(&vectors.tr()), &rows("cosine"), "cosine similarities");
}
