//! A part in integers as an operator of the engine.

use std::sync::Arc;

use tract_onnx::prelude::multithread::current_tract_executor;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::kernels::best;
use super::network::{MapShape, Network};
use super::run::ReadyNetwork;
use super::workers::Workers;

/// A part before the shapes of its inputs are known.
#[derive(Clone, Debug)]
pub(in crate::engine) struct IntegerPart(pub(in crate::engine) Arc<Network>);

/// A part made ready for its inputs.
#[derive(Clone, Debug)]
struct ReadyPart(Arc<ReadyNetwork>);

fn map_shapes<'s>(shapes: impl Iterator<Item = &'s [TDim]>) -> TractResult<Vec<MapShape>> {
    let of = |shape: &[TDim]| {
        let lengths: Vec<usize> = shape.iter().map(|dim| Ok(dim.to_usize()?)).collect::<TractResult<_>>()?;
        let found = MapShape::of_tensor(&lengths);
        found.ok_or_else(|| format_err!("a part in integers takes [1, C, H, W], not {lengths:?}"))
    };
    shapes.map(of).collect()
}

impl Expansion for IntegerPart {
    fn name(&self) -> StaticName {
        "Integers".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.0.outputs.len())?;
        for tensor in inputs.iter().chain(outputs) {
            solver.equals(&tensor.datum_type, f32::datum_type())?;
        }
        solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
            let slots = map_shapes(shapes.iter().map(|shape| shape.as_slice()))?;
            let found = self.0.shapes(&slots).map_err(|reason| format_err!("{reason}"))?;
            for (output, of) in outputs.iter().zip(&self.0.outputs) {
                let shape: TVec<TDim> = found[of.step].tensor().iter().map(|n| n.to_dim()).collect();
                solver.equals(&output.shape, shape)?;
            }
            Ok(())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let facts: Vec<TypedFact> =
            inputs.iter().map(|&input| model.outlet_fact(input).cloned()).collect::<TractResult<_>>()?;
        let slots = map_shapes(facts.iter().map(|fact| fact.shape.dims()))?;
        let ready = ReadyNetwork::new(Arc::clone(&self.0), &slots, best()).map_err(|reason| format_err!("{reason}"))?;
        model.wire_node(prefix, ReadyPart(Arc::new(ready)), inputs)
    }
}

impl PartialEq for ReadyPart {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ReadyPart {}

impl Op for ReadyPart {
    fn name(&self) -> StaticName {
        "Integers".into()
    }

    op_as_typed_op!();
}

impl EvalOp for ReadyPart {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let views: Vec<_> =
            inputs.iter().map(|input| input.to_plain_array_view::<f32>()).collect::<TractResult<_>>()?;
        let mut slices: Vec<&[f32]> = Vec::with_capacity(views.len());
        for view in &views {
            slices.push(view.as_slice().ok_or_else(|| format_err!("an input whose numbers do not lie in order"))?);
        }
        let shapes = self.0.output_shapes();
        let mut outputs: Vec<Vec<f32>> = vec![Vec::new(); shapes.len()];
        let executor = current_tract_executor();
        self.0.run(&slices, &mut outputs, Workers::new(&executor));
        shapes
            .iter()
            .zip(outputs)
            .map(|(shape, values)| {
                Ok(tract_ndarray::Array4::from_shape_vec(*shape, values)?.into_tensor().into_tvalue())
            })
            .collect()
    }
}

impl TypedOp for ReadyPart {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.0.output_shapes().iter().map(f32::fact).collect())
    }

    as_op!();
}
