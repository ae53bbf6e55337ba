//! What the shapes of a checkpoint do not say: heads, activation, epsilon. It stands in `config.json` (transformers) or
//! `open_clip_config.json`, or follows OpenAI's rule.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config::{Activation, HEAD_WIDTH, NORM_EPS};
use super::error::ClipError;

/// What holds for a checkpoint beside which no file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipOptions {
    /// Width of an attention head, 64 in OpenAI's models.
    pub head_width: i64,
    /// Of the feed-forward blocks; many models that OpenAI did not train have [`Activation::Gelu`].
    pub activation: Activation,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

impl Default for ClipOptions {
    fn default() -> Self {
        Self { head_width: HEAD_WIDTH, activation: Activation::QuickGelu, norm_eps: NORM_EPS }
    }
}

/// The two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Visual,
    Text,
}

impl Side {
    pub(super) fn part(self) -> &'static str {
        match self {
            Self::Visual => "visual network",
            Self::Text => "text transformer",
        }
    }
}

/// Of one of the networks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    heads: Option<i64>,
    pub(super) head_width: i64,
    pub(super) activation: Activation,
    pub(super) norm_eps: f64,
}

impl Settings {
    /// Heads of an attention of this width, where they are known or the rule gives them.
    pub(super) fn heads(&self, width: i64) -> Option<i64> {
        let ruled = || Some(width / self.head_width).filter(|_| width % self.head_width == 0);
        self.heads.or_else(ruled)
    }
}

/// What stands beside a checkpoint.
pub(super) struct SettingsFile {
    options: ClipOptions,
    /// Its path, its fields, and whether they are those of transformers.
    file: Option<(PathBuf, Map<String, Value>, bool)>,
}

impl SettingsFile {
    /// Looks into a folder; a `config.json` without the two sections of a CLIP is not meant.
    pub(super) fn read(folder: &Path, options: &ClipOptions) -> Result<Self, ClipError> {
        let mut found = Self { options: options.clone(), file: None };
        for (name, hub) in [("config.json", true), ("open_clip_config.json", false)] {
            let path = folder.join(name);
            if !path.exists() {
                continue;
            }
            let text = std::fs::read(&path).map_err(|source| ClipError::Read { path: path.clone(), source })?;
            let fields: Map<String, Value> = serde_json::from_slice(&text)
                .map_err(|e| ClipError::Settings { path: path.clone(), reason: format!("not a JSON object: {e}") })?;
            let fields = match (hub, fields.get("model_cfg")) {
                (false, Some(Value::Object(model))) => model.clone(),
                _ => fields,
            };
            if hub && fields.get("model_type").is_some_and(|kind| kind != "clip") {
                let reason = format!("`model_type` is {}: expected \"clip\"", fields["model_type"]);
                return Err(ClipError::Settings { path, reason });
            }
            if fields.contains_key("vision_config") || fields.contains_key("vision_cfg") {
                found.file = Some((path, fields, hub));
                break;
            }
        }
        Ok(found)
    }

    /// What holds for one of the networks, of which the shapes give `width` (not for a residual network).
    pub(super) fn side(&self, side: Side, width: Option<i64>) -> Result<Settings, ClipError> {
        let ClipOptions { head_width, activation, norm_eps } = self.options;
        let mut settings = Settings { heads: None, head_width, activation, norm_eps };
        let Some((path, fields, hub)) = &self.file else { return Ok(settings) };
        let wrong = |reason: String| ClipError::Settings { path: path.clone(), reason };
        let name = match (side, hub) {
            (Side::Visual, true) => "vision_config",
            (Side::Text, true) => "text_config",
            (Side::Visual, false) => "vision_cfg",
            (Side::Text, false) => "text_cfg",
        };
        let section = fields.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let size = |field: &str| match section.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64().filter(|size| (1..=1 << 20).contains(size)) {
                Some(size) => Ok(Some(size)),
                None => Err(wrong(format!("`{name}.{field}` is {value}: expected a whole number of 1 or more"))),
            },
        };
        let stated = size(if *hub { "hidden_size" } else { "width" })?;
        if let (Some(stated), Some(width)) = (stated, width)
            && stated != width
        {
            return Err(wrong(format!(
                "`{name}` has the width {stated}, and the weights have {width}: do they belong together?"
            )));
        }
        if *hub {
            // The defaults of transformers, which its newer files leave out.
            let heads = size("num_attention_heads")?;
            settings.heads = Some(heads.unwrap_or(if side == Side::Visual { 12 } else { 8 }));
            settings.norm_eps = match section.get("layer_norm_eps") {
                None | Some(Value::Null) => NORM_EPS,
                Some(value) => value
                    .as_f64()
                    .filter(|eps| *eps > 0.0)
                    .ok_or_else(|| wrong(format!("`{name}.layer_norm_eps` is {value}: expected a number above 0")))?,
            };
            settings.activation = match section.get("hidden_act").map_or(Some("quick_gelu"), Value::as_str) {
                Some("quick_gelu") => Activation::QuickGelu,
                Some("gelu") => Activation::Gelu,
                _ => {
                    let found = &section["hidden_act"];
                    return Err(wrong(format!("`{name}.hidden_act` is {found}: expected \"quick_gelu\" or \"gelu\"")));
                }
            };
        } else {
            settings.heads = if side == Side::Text { Some(size("heads")?.unwrap_or(8)) } else { None };
            settings.head_width = size("head_width")?.unwrap_or(HEAD_WIDTH);
            settings.norm_eps = NORM_EPS;
            let quick = fields.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false);
            settings.activation = if quick { Activation::QuickGelu } else { Activation::Gelu };
        }
        Ok(settings)
    }
}
