//! What a teacher says of photos: the probability of each action for the photo's person, and its own features of them.
//!
//! A folder holds `answers.json` (the actions and the photos, by name) and `answers.safetensors` (`scores` `[n, I]`, `features` `[n, D]`), rows
//! in the order of the photos.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::export::{WriteError, write_beside};

const INDEX_FILE: &str = "answers.json";
const TENSOR_FILE: &str = "answers.safetensors";
const SCHEMA: &str = "hoi.answers/1";

/// Why answers cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswersError {
    /// They cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// They are damaged or of another version.
    #[error("{} does not hold a teacher's answers: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A photo that the teacher was not asked of.
    #[error("{} says nothing of {photo}: the teacher was trained on, or asked of, other photos", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The photo.
        photo: String,
    },
    /// They cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// libtorch could not write or read the tensors.
    #[error("cannot transfer the tensors of {}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What libtorch says.
        source: tch::TchError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    schema: String,
    actions: Vec<String>,
    photos: Vec<String>,
}

/// A teacher's answers.
#[derive(Debug)]
pub struct Answers {
    /// Names of the actions.
    pub actions: Vec<String>,
    /// Names of the photos.
    pub photos: Vec<String>,
    /// Probability of each action, `[n, I]`.
    pub scores: Tensor,
    /// Features, `[n, D]`; D may be 0.
    pub features: Tensor,
}

impl Answers {
    /// Whether a folder holds answers.
    pub fn lie_in(folder: &Path) -> bool {
        folder.join(INDEX_FILE).is_file()
    }

    /// Writes them into a folder, the tensors first.
    ///
    /// # Errors
    /// [`AnswersError`].
    pub fn write(&self, folder: &Path) -> Result<(), AnswersError> {
        let path = folder.join(TENSOR_FILE);
        let beside = folder.join(format!(".{TENSOR_FILE}.part"));
        let tensors = [("scores", &self.scores), ("features", &self.features)];
        let tensors = tensors.map(|(name, t)| (name, t.to_kind(Kind::Float).contiguous()));
        Tensor::write_safetensors(&tensors, &beside)
            .map_err(|source| AnswersError::Tensors { path: path.clone(), source })?;
        std::fs::rename(&beside, &path).map_err(|source| WriteError { path: path.clone(), source })?;
        let index = Index { schema: SCHEMA.to_owned(), actions: self.actions.clone(), photos: self.photos.clone() };
        let path = folder.join(INDEX_FILE);
        let text = serde_json::to_vec(&index)
            .map_err(|e| AnswersError::Format { path: path.clone(), reason: e.to_string() })?;
        Ok(write_beside(&path, &text)?)
    }

    /// Reads a folder's answers, which must be about these actions.
    ///
    /// # Errors
    /// [`AnswersError`] naming the file and what is wrong with it.
    pub fn read(folder: &Path, actions: &[&str]) -> Result<Self, AnswersError> {
        let path = folder.join(INDEX_FILE);
        let text = std::fs::read(&path).map_err(|source| AnswersError::Read { path: path.clone(), source })?;
        let format = |path: &Path, reason: String| AnswersError::Format { path: path.to_owned(), reason };
        let index: Index = serde_json::from_slice(&text).map_err(|e| format(&path, e.to_string()))?;
        if index.schema != SCHEMA {
            return Err(format(&path, format!("schema `{}`, expected `{SCHEMA}`", index.schema)));
        }
        if index.actions != actions {
            return Err(format(&path, "its actions are others, or in another order".to_owned()));
        }
        let path = folder.join(TENSOR_FILE);
        let read =
            Tensor::read_safetensors(&path).map_err(|source| AnswersError::Tensors { path: path.clone(), source })?;
        let mut tensors: HashMap<String, Tensor> = read.into_iter().collect();
        let mut take = |name: &str| {
            tensors.remove(name).filter(|t| t.dim() == 2 && t.size()[0] == index.photos.len() as i64).ok_or_else(|| {
                format(&path, format!("it has no `{name}` with a row for each of {} photos", index.photos.len()))
            })
        };
        let (scores, features) = (take("scores")?, take("features")?);
        let wide = scores.size()[1] == actions.len() as i64;
        let usable = wide && scores.isfinite().all().int64_value(&[]) == 1 && scores.min().double_value(&[]) >= 0.0;
        if !usable && scores.numel() > 0 {
            return Err(format(&path, format!("`scores` are not {} probabilities a photo", actions.len())));
        }
        Ok(Self { actions: index.actions, photos: index.photos, scores, features })
    }
}

/// What teachers say of a list of photos, in its order.
#[derive(Debug)]
pub struct TeacherAnswers {
    /// Mean probability of each action, `[n, I]`, rows that add up to 1, or to 0 for photos that no teacher knows.
    pub scores: Tensor,
    /// Features of each teacher that has some, `[n, D]`.
    pub features: Vec<Tensor>,
}

impl TeacherAnswers {
    /// With `count` more photos at the end that no teacher knows.
    pub fn with_unknown(self, count: i64) -> Self {
        let more = |t: Tensor| t.constant_pad_nd([0, 0, 0, count]);
        Self { scores: more(self.scores), features: self.features.into_iter().map(more).collect() }
    }

    /// The answers of one or more teachers, each read from `folders` beside it, for these photos.
    ///
    /// # Errors
    /// [`AnswersError::Missing`] for a photo that a teacher does not know.
    pub fn new(teachers: &[(PathBuf, Answers)], photos: &[&str]) -> Result<Option<Self>, AnswersError> {
        let mut sum: Option<Tensor> = None;
        let mut features = Vec::new();
        for (folder, teacher) in teachers {
            let places: HashMap<&str, i64> = (0..).zip(&teacher.photos).map(|(i, name)| (name.as_str(), i)).collect();
            let rows: Vec<i64> = photos
                .iter()
                .map(|photo| {
                    let missing =
                        || AnswersError::Missing { path: folder.join(INDEX_FILE), photo: (*photo).to_owned() };
                    places.get(photo).copied().ok_or_else(missing)
                })
                .collect::<Result<_, _>>()?;
            let rows = Tensor::from_slice(&rows);
            let scores = teacher.scores.index_select(0, &rows);
            let total = scores.sum_dim_intlist([1i64].as_slice(), true, Kind::Float).clamp_min(1e-12);
            let shares = scores / total;
            sum = Some(match sum {
                Some(sum) => sum + shares,
                None => shares,
            });
            if teacher.features.size()[1] > 0 {
                features.push(teacher.features.index_select(0, &rows));
            }
        }
        Ok(sum.map(|sum| Self { scores: sum / teachers.len() as f64, features }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(photos: &[&str], scores: &[f32]) -> Answers {
        let rows = photos.len() as i64;
        Answers {
            actions: vec!["run".into(), "jump".into()],
            photos: photos.iter().map(|p| (*p).to_owned()).collect(),
            scores: Tensor::from_slice(scores).view([rows, 2]),
            features: Tensor::ones([rows, 3], (Kind::Float, tch::Device::Cpu)),
        }
    }

    #[test]
    fn teachers_are_averaged_photo_by_photo() {
        let folder = tempfile::tempdir().unwrap();
        let teachers: Vec<(PathBuf, Answers)> =
            [answers(&["a", "b"], &[0.2, 0.6, 0.5, 0.5]), answers(&["c", "b", "a"], &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0])]
                .into_iter()
                .enumerate()
                .map(|(i, written)| {
                    let own = folder.path().join(i.to_string());
                    std::fs::create_dir(&own).unwrap();
                    written.write(&own).unwrap();
                    assert!(Answers::lie_in(&own));
                    let read = Answers::read(&own, &["run", "jump"]).unwrap();
                    (own, read)
                })
                .collect();
        let said = TeacherAnswers::new(&teachers, &["b", "a"]).unwrap().unwrap();
        let scores: Vec<Vec<f32>> = Vec::try_from(said.scores).unwrap();
        // b: (0.5, 0.5) and (0, 1); a: (0.25, 0.75) and (1, 0).
        for (found, expected) in scores.concat().iter().zip([0.25, 0.75, 0.625, 0.375]) {
            assert!((found - expected).abs() < 1e-6, "{scores:?}");
        }
        assert_eq!(said.features.len(), 2);
        let more = TeacherAnswers::new(&teachers, &["b"]).unwrap().unwrap().with_unknown(2);
        assert_eq!((more.scores.size(), more.features[0].size()), (vec![3, 2], vec![3, 3]));
        assert_eq!(more.scores.narrow(0, 1, 2).sum(Kind::Float).double_value(&[]), 0.0);
        let error = TeacherAnswers::new(&teachers, &["c"]).unwrap_err().to_string();
        assert!(error.contains("says nothing of c"), "{error}");
        assert!(TeacherAnswers::new(&[], &["a"]).unwrap().is_none());
    }

    #[test]
    fn what_are_no_answers_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let read = || Answers::read(folder.path(), &["run", "jump"]).unwrap_err().to_string();
        assert!(read().contains("cannot read"));
        answers(&["a"], &[0.5, 0.5]).write(folder.path()).unwrap();
        let other = Answers::read(folder.path(), &["jump", "run"]).unwrap_err().to_string();
        assert!(other.contains("another order"), "{other}");
        answers(&["a"], &[f32::NAN, 0.5]).write(folder.path()).unwrap();
        assert!(read().contains("probabilities"));
        std::fs::write(folder.path().join("answers.json"), "{").unwrap();
        assert!(read().contains("answers.json"));
    }
}
