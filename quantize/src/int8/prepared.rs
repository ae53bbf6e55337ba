//! A detector that was looked at, ready to be quantized in one way or another.

use std::collections::{BTreeMap, HashMap};

use super::graphs::Graphs;
use super::report::{OperatorCount, count_operators};
use super::{Int8Error, Int8Job};
use crate::calibrate::{Histogram, Warning};
use crate::fp16;
use crate::onnx::{self, ModelProto, OnnxError};
use crate::passes::drop_unused;
use crate::qdq::{self, Plan, PlanOptions, QdqError, Written};

/// A detector's float graph and the values that its tensors take.
pub(super) struct Prepared<'a> {
    pub job: &'a Int8Job,
    /// The graph's file in the bundle.
    pub file: &'a str,
    pub graphs: &'a Graphs<'a>,
    /// The float graph, cleaned.
    pub model: ModelProto,
    pub shapes: HashMap<String, Vec<usize>>,
    /// By tensor of `model`.
    pub tensors: BTreeMap<String, Histogram>,
    /// Whether large weights that stay float are stored as f16.
    pub halves: bool,
}

/// A detector in integers.
pub(super) struct Made {
    /// The float graph with equalised channels: its results are those of the original.
    pub float: ModelProto,
    /// The quantized graph with all that nobody reads.
    pub complete: ModelProto,
    /// The quantized graph's file.
    pub content: Vec<u8>,
    pub plan: Plan,
    pub written: Written,
    pub operators: BTreeMap<String, OperatorCount>,
    /// Tensors whose channels were brought to one range.
    pub equalized: usize,
    pub warnings: Vec<Warning>,
}

impl Prepared<'_> {
    pub fn unfit(&self, source: QdqError) -> Int8Error {
        Int8Error::Unfit { file: self.file.to_owned(), source }
    }

    pub fn refused(&self, source: OnnxError) -> Int8Error {
        Int8Error::Input { file: self.file.to_owned(), source }
    }

    /// What would be quantized.
    pub fn plan(&self, options: &PlanOptions) -> Result<Plan, Int8Error> {
        qdq::plan(&self.model, &self.graphs.kept, &self.shapes, options).map_err(|e| self.unfit(e))
    }

    /// Quantizes the graph as `options` and the job say.
    pub fn make(&self, options: &PlanOptions) -> Result<Made, Int8Error> {
        let (job, kept) = (self.job, &self.graphs.kept);
        let plan = self.plan(options)?;
        let mut float = self.model.clone();
        let mut tensors = self.tensors.clone();
        let mut fixed = HashMap::new();
        if job.equalize {
            fixed.extend(qdq::equalize(&mut float, kept, &plan, &mut tensors));
            fixed.extend(qdq::equalize_sums(&mut float, kept, &plan, &mut tensors));
        }
        let (scales, warnings) = qdq::scales(&float, &plan, &tensors, job.method, &fixed).map_err(|e| self.unfit(e))?;
        let operators = count_operators(&float, &plan);
        let means =
            tensors.iter().filter(|_| job.correct_bias).map(|(name, h)| (name.clone(), h.channel_means())).collect();
        let mut complete = float.clone();
        let written = qdq::write(&mut complete, &plan, &scales, &means).map_err(|e| self.unfit(e))?;
        let mut model = complete.clone();
        drop_unused(&mut model, &written.names(kept));
        if self.halves {
            fp16::convert(&mut model, fp16::LEAST_ELEMENTS);
        }
        let content = onnx::to_bytes(&model).map_err(|e| self.refused(e))?;
        Ok(Made { float, complete, content, plan, written, operators, equalized: fixed.len(), warnings })
    }
}
