// The calls of the engine: rows of a table through a flow, there and back. They are defined in pass.hpp, adjoint.hpp
// and start.hpp.
#pragma once

#include "pushforward/base/noise.hpp"
#include "pushforward/engine/results.hpp"
#include "pushforward/engine/stack.hpp"

namespace pushforward::engine {

// In every call `context` may be null for a flow without one. Results do not depend on the number of threads.

// forward takes latent points to data points, inverse the other way.
template <class Scalar>
void map(const Stack<Scalar>& stack, Direction direction, const Table& input, const Table* context,
         const Results& results, int threads);

// forward of points drawn from the base.
template <class Scalar>
void sample(const Stack<Scalar>& stack, const Draws& draws, Index rows, const Table* context, const Results& results,
            int threads);

// log p_base(z) of latent points: -infinity outside a box. z: (rows, dim).
template <class Scalar>
void base_log_prob(const Stack<Scalar>& stack, const Table& z, double* log_prob, double temperature, int threads);

// The points that sample() takes to the other side.
template <class Scalar>
void sample_latent(const Stack<Scalar>& stack, const Draws& draws, Index rows, Output z, double temperature,
                   int threads);

// The adjoint of a map; a density's seeds go with the inverse. Returns sum over rows of weight * log p(x) / normalizer
// when the seeds are a density's and the parameters' gradient is wanted.
template <class Scalar>
double vjp(const Stack<Scalar>& stack, Direction direction, const Table& input, const Table* context,
           const Seeds& seeds, const Gradients<Scalar>& gradients, int threads);

// Sets the layers that start from data, from the x side on: each sees the rows as the layers behind it, already set,
// leave them. weights: (x.rows,) or null.
template <class Scalar>
void initialize(Stack<Scalar>& stack, const Table& x, const Table* context, const double* weights, int threads);

// Rows of x as y (rows, dim): on the line, box or circle of each feature's support, not standardised. Infinite on a
// bound, NaN for a value that is not finite or outside its support.
template <class Scalar>
void to_line(const Stack<Scalar>& stack, const Table& x, double* y, int threads);

}  // namespace pushforward::engine
