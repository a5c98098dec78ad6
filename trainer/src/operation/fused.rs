//! How an operation written by hand takes its place in burn's graph: it sees slices, and knows nothing of nodes.

use std::{cell::RefCell, collections::HashMap, fmt::Debug, ops::Deref};

use burn::{
    backend::{
        Autodiff, BackendTypes, Flex, TensorMetadata,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients as OfNodes,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{Gradients, Tensor, TensorData},
};

use super::buffer;

/// An operation with a derivative.
pub(crate) trait Fused: Clone + Debug + Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Saved: Clone + Debug + Send + 'static;

    /// The output, and what backward needs.
    fn forward(&self, inputs: Vec<Values>) -> (Values, Self::Saved);

    /// The gradient of each input, in order, from that of the output.
    fn backward(&self, saved: Self::Saved, gradient: Values) -> Vec<Values>;
}

/// The numbers of a tensor on the CPU, row-major and without gaps; a clone shares them. The last one gives its memory back.
#[derive(Clone, Debug)]
pub(crate) struct Values(Option<Primitive>);

type Primitive = <Flex as BackendTypes>::FloatTensorPrimitive;
type Tracked = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

impl Values {
    pub(crate) fn new<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Values {
        Values(Some(Primitive::from_data(TensorData::new(values, shape))))
    }

    /// The tensor's numbers; nothing is copied where they lie without gaps.
    pub(crate) fn of<const D: usize>(tensor: Tensor<D>) -> Values {
        Values::from_primitive(tensor.inner().try_into_primitive::<Flex>().expect("the fused path runs on burn-flex"))
    }

    fn from_primitive(primitive: Primitive) -> Values {
        if primitive.as_slice::<f32>().is_some() {
            return Values(Some(primitive));
        }
        let primitive = primitive.to_contiguous();
        assert!(primitive.as_slice::<f32>().is_some(), "the fused path computes in f32, not in {:?}", primitive.dtype());
        Values(Some(primitive))
    }

    /// The matrix that it was made as.
    pub(crate) fn into_matrix(self) -> Tensor<2> {
        Tensor::from_primitive::<Flex>(self.into_primitive())
    }

    fn into_primitive(mut self) -> Primitive {
        self.0.take().expect("taken only here and when dropped")
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let primitive = self.0.as_ref().expect("taken only at the end");
        primitive.as_slice::<f32>().expect("checked when made")
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Some(primitive) = self.0.take()
            && primitive.is_unique()
            && primitive.storage::<f32>().len() == primitive.shape().num_elements()
            && let Ok(values) = primitive.into_data().try_into_vec()
        {
            buffer::give(values);
        }
    }
}

/// Leaves of the graph whose gradients are taken as soon as they are there, each with its place, and who takes them.
struct Taken {
    places: HashMap<NodeId, usize>,
    take: Box<dyn Fn(usize, Values)>,
}

thread_local! {
    /// Those of the backward pass that this thread runs.
    static TAKEN: RefCell<Option<Taken>> = const { RefCell::new(None) };
}

/// A leaf's name in the graph.
pub(crate) fn leaf<const D: usize>(tensor: &Tensor<D>) -> NodeId {
    let tracked = tensor.clone().autodiff().try_into_primitive::<Autodiff<Flex>>();
    tracked.expect("the fused path runs on burn-flex without gradient checkpointing").id()
}

/// Run a backward pass in which the gradients of some leaves go to `take` right from the operation that makes them; each of these
/// leaves is an input of one operation only. Returns the gradients of the others, and the places of leaves that had none to take.
pub(crate) fn backward(
    loss: &Tensor<1>,
    places: HashMap<NodeId, usize>,
    take: impl Fn(usize, Values) + 'static,
) -> (Gradients, impl Iterator<Item = usize>) {
    TAKEN.set(Some(Taken { places, take: Box::new(take) }));
    let gradients = loss.backward(); // on this thread
    let left = TAKEN.take().expect("set above").places;
    (gradients, left.into_values())
}

/// The gradient of a node, unless it is a leaf whose gradient was taken.
fn hand_over(node: NodeId, gradient: Values) -> Option<Values> {
    TAKEN.with_borrow_mut(|taken| {
        let Some(Taken { places, take }) = taken else { return Some(gradient) };
        match places.remove(&node) {
            Some(place) => take(place, gradient),
            None => return Some(gradient),
        }
        None
    })
}

/// The inputs of an operation, of any rank.
#[derive(Default)]
pub(crate) struct Inputs(Vec<Tracked>);

impl Inputs {
    pub(crate) fn and<const D: usize>(mut self, tensor: Tensor<D>) -> Inputs {
        let tracked = tensor.autodiff().try_into_primitive::<Autodiff<Flex>>();
        self.0.push(tracked.expect("the fused path runs on burn-flex without gradient checkpointing"));
        self
    }
}

/// Run an operation and record its derivative.
pub(crate) fn run<O: Fused, const D: usize>(operation: O, inputs: Inputs) -> Tensor<D> {
    // burn wants the number of inputs in the type.
    macro_rules! record_of {
        ($($count:literal)*) => {
            match inputs.0.len() {
                $($count => record::<O, D, $count>(operation, inputs),)*
                count => unreachable!("no operation has {count} inputs"),
            }
        };
    }
    record_of!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

fn record<O: Fused, const D: usize, const N: usize>(operation: O, inputs: Inputs) -> Tensor<D> {
    let (values, guards): (Vec<_>, Vec<_>) = inputs.0.into_iter().map(|input| input.into_parts()).unzip();
    let guards: [_; N] = guards.try_into().expect("as many as counted");
    let (output, saved) = operation.forward(values.into_iter().map(Values::from_primitive).collect());
    let output = match Recorded(operation).prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(saved, output.into_primitive()),
        OpsKind::UnTracked(prepared) => prepared.finish(output.into_primitive()),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

#[derive(Debug)]
struct Recorded<O>(O);

impl<O: Fused, const N: usize> Backward<Flex, N> for Recorded<O> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, gradients: &mut OfNodes, _: &mut Checkpointer) {
        let gradient = Values::from_primitive(gradients.consume::<Flex>(&ops.node));
        let of_inputs = self.0.backward(ops.state, gradient);
        for (parent, gradient) in ops.parents.into_iter().zip(of_inputs) {
            if let Some(parent) = parent
                && let Some(gradient) = hand_over(parent.id, gradient)
            {
                gradients.register::<Flex>(parent.id, gradient.into_primitive());
            }
        }
    }
}
