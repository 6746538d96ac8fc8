// The calls of a mass over rows of categories: log masses, their gradient, draws; tile by tile, as a flow's.
#pragma once

#include "pushforward/engine/results.hpp"
#include "pushforward/engine/tiles.hpp"
#include "pushforward/masses/masses.hpp"
#include "pushforward/masses/softmax.hpp"

namespace pushforward::masses {

namespace detail {

template <class Scalar>
struct Memory {
  Columns<Scalar> codes, network, output, transposed;
  Scalar* dlog_mass;  // (kTileRows,)
  double* log_mass;   // (kTileRows,)
  bool *bad, *outside;

  Memory(const Masses<Scalar>& model, bool adjoint, std::byte* memory) {
    const auto take = [&](auto*& pointer, Index count) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      pointer = memory ? reinterpret_cast<T*>(memory + bytes_) : nullptr;
      bytes_ += aligned_size(static_cast<std::size_t>(count) * sizeof(T));
    };
    const auto take_columns = [&](Columns<Scalar>& columns, Index count) {
      Scalar* data;
      take(data, count * kTileRows);
      columns = Columns<Scalar>(data);
    };
    take(log_mass, kTileRows);
    take(dlog_mass, kTileRows);
    take(bad, kTileRows);
    take(outside, kTileRows);
    take_columns(codes, model.columns());
    take_columns(network, model.network().cache_columns());
    take_columns(output, model.outputs());
    take_columns(transposed, adjoint ? model.network().scratch_columns() : 0);
  }

  static std::size_t bytes(const Masses<Scalar>& model, bool adjoint) {
    return Memory(model, adjoint, nullptr).bytes_;  // laid out nowhere
  }

 private:
  std::size_t bytes_ = 0;
};

// One tile on its way through the network.
template <class Scalar>
class Rows {
 public:
  Rows(const Masses<Scalar>& model, const Table* context, Index first, Index all_rows, Memory<Scalar>& memory)
      : model_(model),
        memory_(memory),
        first_(first),
        rows_(std::min(kTileRows, all_rows - first)),
        padded_(whole_lanes(rows_)) {
    std::fill_n(memory.bad, kTileRows, false);
    std::fill_n(memory.outside, kTileRows, false);
    std::fill_n(memory.log_mass, kTileRows, 0.0);
    if (model.context() == 0) return;
    std::vector<Index> columns(static_cast<std::size_t>(model.context()));
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<Index>(i);
    read_columns(*context, first, rows_, AffineMap::identity(model.context()), columns.data(), memory.network,
                 memory.bad);
  }

  Index rows() const { return rows_; }

  void read(const Table& codes) {
    read_codes(codes, first_, rows_, model_.categories(), memory_.codes, memory_.bad, memory_.outside);
    for (Index column = 0; column + 1 < model_.columns(); ++column) show(column);
  }

  // Computes the log masses, and leaves the masses of all categories in the output.
  void score(const DropoutKey& dropout) {
    const SubnormalMode mode(Subnormals::zero);
    const auto& network = model_.network();
    network.evaluate(network.all_groups(), model_.parameters(), dropout, padded_, memory_.network, memory_.output);
    for (Index column = 0; column < model_.columns(); ++column)
      softmax::add_log_mass(model_.category(column).count, rows_, padded_, memory_.codes[column],
                            memory_.output.from(model_.first_output(column)), memory_.log_mass);
  }

  // From the derivatives by the log masses to those by the parameters, which are added to.
  void vjp(Scalar* dparameters) {
    const SubnormalMode mode(Subnormals::zero);
    for (Index column = 0; column < model_.columns(); ++column)
      softmax::log_mass_vjp(model_.category(column).count, rows_, padded_, memory_.codes[column], memory_.dlog_mass,
                            memory_.output.from(model_.first_output(column)));
    model_.network().vjp(model_.parameters(), rows_, padded_, memory_.network, memory_.output, dparameters,
                         memory_.transposed.data(), false);
  }

  // Draws column by column, each code among the first ones of its column.
  void draw(const Draws& draws, const std::vector<Index>& counts) {
    const SubnormalMode mode(Subnormals::zero);
    for (Index column = 0; column < model_.columns(); ++column) {
      model_.network().evaluate({column, column + 1}, model_.parameters(), {}, padded_, memory_.network,
                                memory_.output);
      softmax::draw(counts[static_cast<std::size_t>(column)], padded_, {draws.key, draws.first_row + first_},
                    static_cast<std::uint32_t>(column), memory_.output.from(model_.first_output(column)),
                    memory_.codes[column]);
      if (column + 1 < model_.columns()) show(column);
    }
  }

  // Draws the codes that are negative column by column, like `draw`, and writes the log mass of each code,
  // (columns, kTileRows).
  void complete(const Draws& draws, const std::vector<Index>& counts, double* log_masses) {
    const SubnormalMode mode(Subnormals::zero);
    for (Index column = 0; column < model_.columns(); ++column) {
      model_.network().evaluate({column, column + 1}, model_.parameters(), {}, padded_, memory_.network,
                                memory_.output);
      softmax::complete(counts[static_cast<std::size_t>(column)], rows_, padded_, {draws.key, draws.first_row + first_},
                        static_cast<std::uint32_t>(column), memory_.output.from(model_.first_output(column)),
                        memory_.codes[column], log_masses + column * kTileRows);
      if (column + 1 < model_.columns()) show(column);
    }
  }

 private:
  // Puts a column into the network's input.
  void show(Index column) {
    write_inputs(model_.category(column), padded_, memory_.codes[column],
                 memory_.network.from(model_.first_input(column)));
  }

  const Masses<Scalar>& model_;
  Memory<Scalar>& memory_;
  Index first_, rows_, padded_;
};

// Calls body(first row of the tile, memory) for each tile.
template <class Scalar, class Body>
void for_each_tile(const Masses<Scalar>& model, Index rows, int threads, Body&& body) {
  const Index tiles = tile_count(rows);
  const CallMemory<Scalar> all(Memory<Scalar>::bytes(model, false), 0, threads_for(tiles, threads), 0);
  parallel_for(tiles, threads, [&](Index index, int thread) {
    Memory<Scalar> memory(model, false, all.workspace(thread));
    body(index * kTileRows, memory);
  });
}

}  // namespace detail

// The log mass (rows,) of each row of codes: NaN for a value that is not finite, -infinity for one that is no code.
template <class Scalar>
void log_prob(const Masses<Scalar>& model, const Table& codes, const Table* context, double* log_mass, int threads) {
  detail::for_each_tile(model, codes.rows, threads, [&](Index first, detail::Memory<Scalar>& memory) {
    detail::Rows<Scalar> tile(model, context, first, codes.rows, memory);
    tile.read(codes);
    tile.score({});
    for (Index row = 0; row < tile.rows(); ++row)
      log_mass[first + row] = memory.bad[row]       ? NAN
                              : memory.outside[row] ? -std::numeric_limits<double>::infinity()
                                                    : memory.log_mass[row];
  });
}

// Draws rows of codes (rows, columns). A key and the number of a row determine the row. counts: by column, how many of
// the first codes may be drawn; a column's masses are then those given that its code is one of them.
template <class Scalar>
void sample(const Masses<Scalar>& model, const Draws& draws, Index rows, const Table* context,
            const std::vector<Index>& counts, Output codes, int threads) {
  const AffineMap identity = AffineMap::identity(model.columns());
  std::vector<Index> columns(static_cast<std::size_t>(model.columns()));
  for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<Index>(i);
  detail::for_each_tile(model, rows, threads, [&](Index first, detail::Memory<Scalar>& memory) {
    detail::Rows<Scalar> tile(model, context, first, rows, memory);
    tile.draw(draws, counts);
    write_columns(memory.codes, first, tile.rows(), model.columns(), identity, columns.data(), memory.bad, codes);
  });
}

// Completes rows of codes: those that are negative are drawn as `sample` draws them, given all codes before them.
// Writes all codes (rows, columns), and the log mass of each given those before it (rows, columns). Row r of `known` is
// row draws.first_row + r of the key. Codes that are known must be whole numbers below the number of their column's
// codes, and those to draw finite.
template <class Scalar>
void complete(const Masses<Scalar>& model, const Draws& draws, const Table& known, const Table* context,
              const std::vector<Index>& counts, Output codes, double* log_masses, int threads) {
  const Index width = model.columns();
  const AffineMap identity = AffineMap::identity(width);
  std::vector<Index> columns(static_cast<std::size_t>(width));
  for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<Index>(i);
  detail::for_each_tile(model, known.rows, threads, [&](Index first, detail::Memory<Scalar>& memory) {
    detail::Rows<Scalar> tile(model, context, first, known.rows, memory);
    read_columns(known, first, tile.rows(), identity, columns.data(), memory.codes, memory.bad);
    std::vector<double> masses(static_cast<std::size_t>(width * kTileRows));
    tile.complete(draws, counts, masses.data());
    for (Index row = 0; row < tile.rows(); ++row)
      for (Index column = 0; column < width; ++column)
        log_masses[(first + row) * width + column] = masses[static_cast<std::size_t>(column * kTileRows + row)];
    std::fill_n(memory.bad, kTileRows, false);
    write_columns(memory.codes, first, tile.rows(), width, identity, columns.data(), memory.bad, codes);
  });
}

// Returns sum over rows of weight * log mass / normalizer, and writes its gradient by the parameters and the gradient's
// norm. The seeds have no output: a row of weight 0 is not there.
template <class Scalar>
double vjp(const Masses<Scalar>& model, const Table& codes, const Table* context, const Seeds& seeds, Scalar* gradient,
           double* norm, int threads) {
  const Index count = model.parameter_count();
  const auto of_tile = [&](Index index, engine::GradientSum<Scalar> sum, std::byte* at) {
    detail::Memory<Scalar> memory(model, true, at);
    const Index first = index * kTileRows;
    detail::Rows<Scalar> tile(model, context, first, codes.rows, memory);
    tile.read(codes);
    tile.score({seeds.dropout, first});
    std::fill_n(memory.dlog_mass, kTileRows, Scalar(0));
    double value = 0;
    for (Index row = 0; row < tile.rows(); ++row) {
      const Index at_row = codes.index ? static_cast<Index>(codes.index[first + row]) : first + row;
      const double share = (seeds.weights ? seeds.weights[at_row] : 1.0) / seeds.normalizer;
      if (share == 0) continue;
      memory.dlog_mass[row] = static_cast<Scalar>(memory.bad[row] ? NAN : share);
      value += share * (memory.bad[row]       ? NAN
                        : memory.outside[row] ? -std::numeric_limits<double>::infinity()
                                              : memory.log_mass[row]);
    }
    tile.vjp(sum.part(0, count));
    return value;
  };
  return engine::sum_over_tiles(tile_count(codes.rows), detail::Memory<Scalar>::bytes(model, true), count, gradient,
                                norm, threads, of_tile);
}

}  // namespace pushforward::masses
