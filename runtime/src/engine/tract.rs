//! tract behind the [`Engine`] trait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, Factoid, ToDim, expand};

use super::halves::{Halves, arrange, cpu_has_halves};
use super::integer::kernels::best;
use super::integer::{IntegerPart, IntegerReport, Part, fold_constants, take_out, wrong_scale};
use super::{Dim, ElementType, Engine, EngineError, GraphRequest, Model, Tensor, TensorSpec, display_shape};

/// Runs ONNX graphs with tract, on one thread or several.
#[derive(Clone)]
pub struct TractEngine {
    executor: Executor,
    threads: usize,
    native_halves: bool,
}

impl TractEngine {
    /// An engine that uses `threads` threads a graph; 0 counts as 1.
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let executor = if threads == 1 { Executor::SingleThread } else { Executor::multithread(threads) };
        Self { executor, threads, native_halves: cpu_has_halves() }
    }

    /// Whether graphs in f16 are computed in f16; otherwise in f32. As [`cpu_has_halves`] says unless chosen here.
    #[must_use]
    pub fn with_native_halves(self, native_halves: bool) -> Self {
        Self { native_halves, ..self }
    }
}

impl Default for TractEngine {
    fn default() -> Self {
        Self::new(1)
    }
}

/// Runs `f`, turning a panic of the engine into an error.
fn guarded<T>(
    f: impl FnOnce() -> Result<T, EngineError>,
    failed: impl FnOnce(String) -> EngineError,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "no reason given".to_owned());
        Err(failed(format!("the engine panicked: {words}")))
    })
}

fn datum_type(element: ElementType) -> DatumType {
    match element {
        ElementType::F32 => f32::datum_type(),
        ElementType::I64 => i64::datum_type(),
    }
}

impl Engine for TractEngine {
    fn name(&self) -> String {
        format!("tract ({} thread{})", self.threads, if self.threads == 1 { "" } else { "s" })
    }

    fn load(&self, onnx: &[u8], request: &GraphRequest) -> Result<Box<dyn Model>, EngineError> {
        guarded(
            || load(onnx, request, self).map(|m| Box::new(m) as Box<dyn Model>),
            |reason| EngineError::Parse { reason },
        )
    }
}

fn load(onnx: &[u8], request: &GraphRequest, engine: &TractEngine) -> Result<TractModel, EngineError> {
    let parse = |e: TractError| EngineError::Parse { reason: format!("{e:#}") };
    // Shapes noted for tensors inside the graph may name a batch dimension that the request fixes; tract infers them anyway.
    // Read from memory, a graph has no folder: tract refuses one that keeps tensors in other files.
    let framework = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = framework.proto_model_for_read(&mut &onnx[..]).map_err(parse)?;
    if let Some((tensor, value)) = model.graph.as_ref().and_then(wrong_scale) {
        return Err(EngineError::WrongScale { tensor, value });
    }
    let mut left = model.clone();
    let Some((parts, mut report)) = take_out(&mut left, &request.outputs) else {
        return prepare(framework.model_for_proto_model(&model).map_err(parse)?, request, engine);
    };
    report.kernels = best().name();
    let fused = framework.model_for_proto_model(&left).map_err(parse).and_then(|mut graph| {
        place(&mut graph, parts)?;
        prepare(graph, request, engine)
    });
    match fused {
        Ok(fused) => Ok(TractModel { integers: Some(report), ..fused }),
        // A part whose shapes are not what integers are computed on: the graph as it is, in float.
        Err(reason) => {
            if let Some(graph) = &mut model.graph {
                fold_constants(graph);
            }
            let plain = prepare(framework.model_for_proto_model(&model).map_err(parse)?, request, engine)?;
            report.all_in_float(&reason);
            Ok(TractModel { integers: Some(report), ..plain })
        }
    }
}

/// Puts each part in integers where its node stands.
fn place(graph: &mut InferenceModel, parts: Vec<Part>) -> Result<(), EngineError> {
    for Part { node, network } in parts {
        let missing = || EngineError::Parse { reason: format!("the graph lost its node `{node}`") };
        let found = graph.nodes_mut().iter_mut().find(|n| n.name == node).ok_or_else(missing)?;
        found.op = expand(IntegerPart(Arc::new(network)));
    }
    Ok(())
}

fn prepare(mut graph: InferenceModel, request: &GraphRequest, engine: &TractEngine) -> Result<TractModel, EngineError> {
    let parse = |e: TractError| EngineError::Parse { reason: format!("{e:#}") };
    let optimize = |e: TractError| EngineError::Optimize { reason: format!("{e:#}") };
    if graph.output_outlets().map_err(parse)?.is_empty() {
        return Err(EngineError::Parse { reason: "it has no outputs".into() });
    }

    select_inputs(&mut graph, &request.inputs)?;
    if !request.outputs.is_empty() {
        let available = || {
            let mut names: Vec<&str> = graph
                .output_outlets()
                .unwrap_or_default()
                .iter()
                .filter_map(|&o| graph.outlet_label(o).or_else(|| Some(graph.node(o.node).name.as_str())))
                .collect();
            names.sort_unstable();
            names.join(", ")
        };
        for name in &request.outputs {
            if graph.find_outlet_label(name).is_none() && graph.node_by_name(name).is_err() {
                return Err(EngineError::Missing { what: "tensor", name: name.clone(), available: available() });
            }
        }
        graph.select_outputs_by_name(&request.outputs).map_err(parse)?;
    }
    let output_names: Vec<String> = graph
        .output_outlets()
        .map_err(parse)?
        .iter()
        .map(|&o| graph.outlet_label(o).map_or_else(|| graph.node(o.node).name.clone(), str::to_owned))
        .collect();
    let input_names: Vec<String> =
        graph.input_outlets().map_err(parse)?.iter().map(|o| graph.node(o.node).name.clone()).collect();

    let mut typed = graph.into_typed().map_err(optimize)?.into_decluttered().map_err(optimize)?;
    refuse_nan(&typed)?;
    let halves = arrange(&mut typed, engine.native_halves).map_err(optimize)?;
    let inputs = describe(&typed, typed.input_outlets().map_err(optimize)?, &input_names)?;
    let outputs = describe(&typed, typed.output_outlets().map_err(optimize)?, &output_names)?;
    let mut optimized = typed;
    optimized.optimize().map_err(optimize)?;
    let plan = optimized.into_runnable().map_err(optimize)?;
    let executor = engine.executor.clone();
    Ok(TractModel { plan, inputs, outputs, executor, integers: None, halves })
}

/// Orders the graph's inputs as requested and fixes their shapes, after a check against what the graph declares.
fn select_inputs(graph: &mut InferenceModel, wanted: &[TensorSpec]) -> Result<(), EngineError> {
    let parse = |e: TractError| EngineError::Parse { reason: format!("{e:#}") };
    if wanted.is_empty() {
        return Ok(());
    }
    let declared: Vec<OutletId> = graph.input_outlets().map_err(parse)?.to_vec();
    let names: Vec<String> = declared.iter().map(|o| graph.node(o.node).name.clone()).collect();
    let mut order = Vec::with_capacity(wanted.len());
    for spec in wanted {
        let missing = || EngineError::Missing { what: "input", name: spec.name.clone(), available: names.join(", ") };
        let position = names.iter().position(|n| *n == spec.name).ok_or_else(missing)?;
        let outlet = declared[position];
        let fact = graph.outlet_fact(outlet).map_err(parse)?.clone();
        check_declared(spec, &fact)?;
        for symbol in spec.shape.iter().filter_map(|d| match d {
            Dim::Symbol(s) => Some(s),
            Dim::Fixed(_) => None,
        }) {
            // Without it tract cannot prove that element-wise kernels pay off for [P, 256], and takes a slow generic path (half of the
            // head's time at 435 pairs). An empty tensor still runs: nothing but the choice of kernels depends on it.
            graph.symbols.add_assertion(format!("{symbol} >= 1")).map_err(parse)?;
        }
        let shape: TVec<TDim> = spec
            .shape
            .iter()
            .map(|d| match d {
                Dim::Fixed(n) => n.to_dim(),
                Dim::Symbol(s) => graph.sym(s).to_dim(),
            })
            .collect();
        graph.set_outlet_fact(outlet, InferenceFact::dt_shape(datum_type(spec.element), shape)).map_err(parse)?;
        order.push(outlet);
    }
    if let Some(i) = (0..declared.len()).find(|&i| !order.contains(&declared[i])) {
        return Err(EngineError::WrongShape {
            name: names[i].clone(),
            expected: "no such input".into(),
            found: "an input that nobody would fill".into(),
        });
    }
    graph.set_input_outlets(&order).map_err(parse)
}

fn check_declared(spec: &TensorSpec, fact: &InferenceFact) -> Result<(), EngineError> {
    let wrong = || EngineError::WrongShape {
        name: spec.name.clone(),
        expected: format!("{} {}", spec.element, display_shape(&spec.shape)),
        found: format!("{fact:?}"),
    };
    if let Some(dt) = fact.datum_type.concretize()
        && dt != datum_type(spec.element)
    {
        return Err(wrong());
    }
    if let Some(rank) = fact.shape.rank().concretize()
        && rank as usize != spec.shape.len()
    {
        return Err(wrong());
    }
    for (want, have) in spec.shape.iter().zip(fact.shape.dims()) {
        let have = have.concretize().and_then(|d| d.to_usize().ok());
        if let (Dim::Fixed(want), Some(have)) = (want, have)
            && *want != have
        {
            return Err(wrong());
        }
    }
    Ok(())
}

fn refuse_nan(graph: &TypedModel) -> Result<(), EngineError> {
    for node in graph.nodes() {
        for output in &node.outputs {
            let Some(constant) = &output.fact.konst else { continue };
            let position = if let Ok(view) = constant.to_plain_array_view::<f32>() {
                view.iter().position(|v| v.is_nan())
            } else if let Ok(view) = constant.to_plain_array_view::<f16>() {
                view.iter().position(|v| v.is_nan())
            } else {
                None
            };
            if let Some(position) = position {
                return Err(EngineError::NanWeight { node: node.name.clone(), position });
            }
        }
    }
    Ok(())
}

fn describe(graph: &TypedModel, outlets: &[OutletId], names: &[String]) -> Result<Vec<TensorSpec>, EngineError> {
    outlets
        .iter()
        .zip(names)
        .map(|(&outlet, name)| {
            let fact = graph.outlet_fact(outlet).map_err(|e| EngineError::Optimize { reason: format!("{e:#}") })?;
            let element = match fact.datum_type {
                DatumType::F32 => ElementType::F32,
                dt if dt.is_integer() || dt == DatumType::TDim => ElementType::I64,
                other => {
                    return Err(EngineError::WrongShape {
                        name: name.clone(),
                        expected: "f32 or integers".into(),
                        found: format!("{other:?}"),
                    });
                }
            };
            let shape = fact
                .shape
                .iter()
                .map(|d| d.to_usize().map_or_else(|_| Dim::Symbol(d.to_string()), Dim::Fixed))
                .collect();
            Ok(TensorSpec { name: name.clone(), element, shape })
        })
        .collect()
}

struct TractModel {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    executor: Executor,
    integers: Option<IntegerReport>,
    halves: Option<Halves>,
}

impl TractModel {
    fn check(&self, inputs: &[Tensor]) -> Result<(), EngineError> {
        if inputs.len() != self.inputs.len() {
            return Err(EngineError::WrongInput {
                name: "(all)".into(),
                expected: format!("{} tensors", self.inputs.len()),
                found: format!("{}", inputs.len()),
            });
        }
        for (given, spec) in inputs.iter().zip(&self.inputs) {
            let fits = given.element() == spec.element
                && given.shape().len() == spec.shape.len()
                && given.shape().iter().zip(&spec.shape).all(|(g, s)| match s {
                    Dim::Fixed(n) => g == n,
                    Dim::Symbol(_) => true,
                });
            if !fits {
                return Err(EngineError::WrongInput {
                    name: spec.name.clone(),
                    expected: format!("{} {}", spec.element, display_shape(&spec.shape)),
                    found: format!("{} {:?}", given.element(), given.shape()),
                });
            }
        }
        Ok(())
    }

    fn compute(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        let failed = |e: TractError| EngineError::Run { reason: format!("{e:#}") };
        let values: TVec<TValue> = inputs
            .into_iter()
            .map(|t| match t {
                Tensor::F32(a) => a.into_tensor().into_tvalue(),
                Tensor::I64(a) => a.into_tensor().into_tvalue(),
            })
            .collect();
        let outputs = multithread_tract_scope(self.executor.clone(), || self.plan.run(values)).map_err(failed)?;
        let typed = outputs.into_iter().zip(&self.outputs).map(|(value, spec)| {
            let tensor = value.into_tensor();
            match spec.element {
                ElementType::F32 => tensor.into_plain_array::<f32>().map(Tensor::F32),
                ElementType::I64 => {
                    tensor.cast_to::<i64>().map(|t| t.into_owned()).and_then(|t| t.into_plain_array()).map(Tensor::I64)
                }
            }
            .map_err(failed)
        });
        typed.collect()
    }
}

impl Model for TractModel {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn integers(&self) -> Option<&IntegerReport> {
        self.integers.as_ref()
    }

    fn halves(&self) -> Option<Halves> {
        self.halves
    }

    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        self.check(&inputs)?;
        guarded(
            || match &self.executor {
                // On one of its own threads, which shares work with the others without a hand-over for each operator.
                Executor::MultiThread(pool) => pool.install(|| self.compute(inputs)),
                _ => self.compute(inputs),
            },
            |reason| EngineError::Run { reason },
        )
    }
}
