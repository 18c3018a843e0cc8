"""The maths of FIPO (arXiv 2603.19835): tensors in, tensors out; needs only torch. docs/algorithm.md walks through it.

advantages   group_advantages                        Eq. 1
influence    masked_log_ratio, influence             Eqs. 3 and 5, and the way from them to Eq. 7
future_kl    future_kl, influence_weights            Eqs. 6 and 7; scan and scan_triton compute them
loss         fipo_loss, policy_loss, LossOutput      Eq. 8, over surrogate, corrections and metrics
options      LossOptions                             every setting; also the section `algorithm` of a recipe
measurement  Measurement, Reduction                  metrics that know how micro-batches and ranks add up
guards       no_op_warning, noise_warning            how to notice that FIPO does nothing, or follows noise
placebo      placebo_weights                         controls for experiments
log_probs    linear_log_probs                        log-probs and entropy without logits
"""
