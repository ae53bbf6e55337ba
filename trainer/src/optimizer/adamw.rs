//! AdamW (Loshchilov and Hutter) whose moments are plain tensors.

use tch::{Tensor, no_grad};

/// How weights are decayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDecay {
    /// Apart from the gradient: AdamW.
    Apart,
    /// Added to the gradient, which makes this Adam.
    InGradient,
}

/// AdamW over a list of parameters, always in the same order.
#[derive(Debug)]
pub struct AdamW {
    /// Weight decay per unit of learning rate; vectors (biases) are not decayed.
    pub weight_decay: f64,
    /// How weights are decayed.
    pub decay: WeightDecay,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    steps: u64,
}

const BETA: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

impl AdamW {
    /// An optimizer that has not stepped yet.
    pub fn new(parameters: &[Tensor], weight_decay: f64) -> Self {
        let zeros = || parameters.iter().map(|p| p.detach().zeros_like()).collect();
        Self { weight_decay, decay: WeightDecay::Apart, first: zeros(), second: zeros(), steps: 0 }
    }

    /// An optimizer that goes on after `steps` steps with the moments it had then.
    pub fn resume(weight_decay: f64, first: Vec<Tensor>, second: Vec<Tensor>, steps: u64) -> Self {
        Self { weight_decay, decay: WeightDecay::Apart, first, second, steps }
    }

    /// First and second moments, in the order of the parameters.
    pub fn moments(&self) -> (&[Tensor], &[Tensor]) {
        (&self.first, &self.second)
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step along the gradients, which are then forgotten.
    pub fn step(&mut self, parameters: &mut [Tensor], learning_rate: f64) {
        self.step_each(parameters, |_| learning_rate);
    }

    /// One step along the gradients, with a learning rate for each parameter by its index.
    pub fn step_each(&mut self, parameters: &mut [Tensor], learning_rate: impl Fn(usize) -> f64) {
        self.steps += 1;
        let correction = BETA.map(|beta| 1.0 - beta.powi(self.steps.min(i32::MAX as u64) as i32));
        no_grad(|| {
            let moments = self.first.iter_mut().zip(&mut self.second);
            for (i, (p, (m, v))) in parameters.iter_mut().zip(moments).enumerate() {
                let learning_rate = learning_rate(i);
                let mut gradient = p.grad();
                if !gradient.defined() {
                    continue;
                }
                let decayed = p.dim() > 1 && self.weight_decay > 0.0;
                if decayed && self.decay == WeightDecay::InGradient {
                    gradient += &*p * self.weight_decay;
                }
                *m *= BETA[0];
                *m += &gradient * (1.0 - BETA[0]);
                *v *= BETA[1];
                *v += gradient.square() * (1.0 - BETA[1]);
                if decayed && self.decay == WeightDecay::Apart {
                    *p *= 1.0 - learning_rate * self.weight_decay;
                }
                let scale = (&*v / correction[1]).sqrt() + EPS;
                *p -= &*m * (learning_rate / correction[0]) / scale;
                let _ = gradient.zero_();
            }
        });
    }
}

/// Scales all gradients so that their common norm is at most `max_norm`; returns the norm before.
pub fn clip_gradients(parameters: &[Tensor], max_norm: f64) -> f64 {
    no_grad(|| {
        let mut gradients: Vec<Tensor> = parameters.iter().map(Tensor::grad).filter(Tensor::defined).collect();
        let squares: f64 = gradients.iter().map(|g| g.square().sum(tch::Kind::Float).double_value(&[])).sum();
        let norm = squares.sqrt();
        if norm > max_norm {
            gradients.iter_mut().for_each(|g| *g *= max_norm / norm);
        }
        norm
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(values: &[f32], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values).view(shape).set_requires_grad(true)
    }

    #[test]
    fn two_steps_by_hand() {
        // f = 2 p: the gradient is always 2, so every bias-corrected step is the learning rate.
        let mut parameters = [parameter(&[1.0], &[1]), parameter(&[1.0], &[1, 1])];
        let mut adamw = AdamW::new(&parameters, 0.5);
        for _ in 0..2 {
            ((&parameters[0] + parameters[1].view([1])) * 2.0).sum(tch::Kind::Float).backward();
            adamw.step(&mut parameters, 0.1);
        }
        assert!((parameters[0].double_value(&[0]) - 0.8).abs() < 1e-5, "a vector is not decayed");
        // (1 * 0.95 - 0.1) * 0.95 - 0.1
        assert!((parameters[1].double_value(&[0, 0]) - 0.7075).abs() < 1e-5);
        assert_eq!(adamw.steps(), 2);
    }

    #[test]
    fn rates_and_decay_by_hand() {
        let mut parameters = [parameter(&[1.0], &[1, 1]), parameter(&[1.0], &[1, 1])];
        let mut adam = AdamW::new(&parameters, 3.0);
        adam.decay = WeightDecay::InGradient;
        // Gradients 1 + 3 and -4 + 3: whatever their size, the first step is the learning rate.
        (&parameters[0] - &parameters[1] * 4.0).sum(tch::Kind::Float).backward();
        adam.step_each(&mut parameters, |i| [0.1, 0.01][i]);
        assert!((parameters[0].double_value(&[0, 0]) - 0.9).abs() < 1e-6);
        assert!((parameters[1].double_value(&[0, 0]) - 1.01).abs() < 1e-6);
        assert!((adam.moments().0[0].double_value(&[0, 0]) - 0.4).abs() < 1e-6, "the decay is in the moment");
    }

    #[test]
    fn resumed_steps_are_the_same() {
        let run = |stop: bool| {
            let mut p = [parameter(&[3.0, -2.0], &[1, 2])];
            let mut adamw = AdamW::new(&p, 0.01);
            for i in 0..6 {
                if stop && i == 3 {
                    let (m, v) = adamw.moments();
                    let copy = |t: &[Tensor]| t.iter().map(Tensor::copy).collect();
                    adamw = AdamW::resume(0.01, copy(m), copy(v), adamw.steps());
                }
                p[0].square().sum(tch::Kind::Float).backward();
                adamw.step(&mut p, 0.05);
            }
            Vec::<f32>::try_from(p[0].view([-1]).detach()).unwrap()
        };
        assert_eq!(run(false), run(true));
    }

    #[test]
    fn clipping_by_hand() {
        let p = [parameter(&[3.0], &[1]), parameter(&[4.0], &[1])];
        (p[0].square() + p[1].square()).sum(tch::Kind::Float).backward(); // gradients 6 and 8, norm 10
        assert!((clip_gradients(&p, 5.0) - 10.0).abs() < 1e-5);
        assert!((p[0].grad().double_value(&[0]) - 3.0).abs() < 1e-5);
        assert!((clip_gradients(&p, 5.1) - 5.0).abs() < 1e-5);
        assert!((p[1].grad().double_value(&[0]) - 4.0).abs() < 1e-5, "small gradients stay");
    }
}
