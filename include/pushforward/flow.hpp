// A normalizing flow: base density, layers, data side, and the engine that takes tiles of rows through them.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "pushforward/data/data_side.hpp"
#include "pushforward/data/table.hpp"
#include "pushforward/engine/gradient.hpp"
#include "pushforward/engine/workspace.hpp"
#include "pushforward/model/file.hpp"
#include "pushforward/model/registry.hpp"

namespace pushforward {

// A row's greatest standardised value for a layer to start from it: far beyond what a density with two well separated
// parts has, and where one row in a thousand would already double a variance.
inline constexpr double kFarthestStart = 30;

// What a C++ program needs is load and the calls over row-major buffers; the calls over tables below them are what the
// Python package is made of.
template <class Scalar>
class Flow {
 public:
  // A saved flow, from its file or from the bytes of one. Parameters are rounded when the file's are of more precision
  // than Scalar. Throws FileFormatError when the content is not a flow's, std::filesystem::filesystem_error when the
  // file cannot be read.
  static Flow load(const std::filesystem::path& path) {
    const std::string bytes = detail::read_file(path);
    try {
      return parse(bytes);
    } catch (const FileFormatError& error) {
      throw FileFormatError(path.string() + ": " + error.what());
    }
  }

  static Flow parse(std::string_view bytes) {
    try {
      detail::ModelFile file(bytes);
      Flow flow(file.model(), file.value_count());
      Scalar* to = flow.parameters();
      for (const auto& block : flow.parameter_blocks()) to = file.take(block.name, block.shape, to);
      file.expect_all_taken();
      flow.set_standardization(file.standardization().shift, file.standardization().scale);
      flow.set_context_standardization(file.context_standardization().shift, file.context_standardization().scale);
      return flow;
    } catch (const std::invalid_argument& error) {
      throw FileFormatError(error.what());
    }
  }

  // Row-major buffers: x and z are (rows, dim()), log_prob and log_det (rows,), context is (rows, context()) and null
  // for a flow without. NaN stands in rows whose input is not finite, or outside its support. Results do not depend on
  // the number of threads; several threads may call one flow at once. A wrong argument is a std::invalid_argument.

  // log p(x), in nats; -infinity outside the support.
  void log_prob(const Scalar* x, Index rows, double* log_prob, const Scalar* context = nullptr,
                int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    map(Direction::inverse, table(x, rows, dim_), &conditions, {{}, nullptr, log_prob}, threads);
  }

  // z -> x and log|det dx/dz|.
  void forward(const Scalar* z, Index rows, Scalar* x, double* log_det, const Scalar* context = nullptr,
               int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    map(Direction::forward, table(z, rows, dim_), &conditions, {{x, kIsDouble}, log_det, nullptr}, threads);
  }

  // Points drawn from the density, and log p of each; log_prob may be null. A key and the number of a row determine the
  // row, whatever else is drawn.
  void sample(const Draws& draws, Index rows, Scalar* x, double* log_prob = nullptr, const Scalar* context = nullptr,
              int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    sample(draws, rows, &conditions, {{x, kIsDouble}, nullptr, log_prob}, threads);
  }

  // x -> z and log|det dz/dx|.
  void inverse(const Scalar* x, Index rows, Scalar* z, double* log_det, const Scalar* context = nullptr,
               int threads = default_threads()) const {
    const Table conditions = context_rows(context, rows, threads);
    map(Direction::inverse, table(x, rows, dim_), &conditions, {{z, kIsDouble}, log_det, nullptr}, threads);
  }

  // The mean of -log p(x) over the rows, of which there is at least one; its gradient (parameter_count(),) is written.
  double loss_and_grad(const Scalar* x, Index rows, Scalar* gradient, const Scalar* context = nullptr,
                       int threads = default_threads()) const {
    if (rows < 1) throw std::invalid_argument("a mean needs at least one row");
    const Table conditions = context_rows(context, rows, threads);
    Seeds seeds;
    seeds.normalizer = -static_cast<double>(rows);
    Gradients gradients;
    Scalar none;  // a gradient without entries may be null, which would say that nobody asks
    gradients.parameters = parameter_count() > 0 ? gradient : &none;
    return vjp(Direction::inverse, table(x, rows, dim_), &conditions, seeds, gradients, threads);
  }

  // Results of a pass over rows; null is not computed or not kept. NaN stands in rows whose input is not finite, or
  // outside its support, where only log_prob is -infinity.
  struct Results {
    Output output;               // (rows, dim), the other side's point
    double* log_det = nullptr;   // (rows,), of the map taken
    double* log_prob = nullptr;  // (rows,), log density of the x side
  };

  // What an adjoint is taken of: `output` and `log_det` (the derivatives by both results of the map), or, without
  // them, sum over rows of weight * log p(x) / normalizer.
  struct Seeds {
    const Table* output = nullptr;
    const double* log_det = nullptr;
    const double* weights = nullptr;  // null: all ones
    double normalizer = 1;
    std::uint64_t dropout = 0;  // key of the units to drop, of which 0 drops none
  };

  struct Gradients {
    Output input;                  // (rows, dim)
    Output context;                // (rows, context)
    Scalar* parameters = nullptr;  // (parameter_count,), written
    double* norm = nullptr;        // Euclidean, of the parameters' gradient
    double* log_prob = nullptr;    // (rows,), not an adjoint: comes for free
  };

  // Throws std::invalid_argument, before it allocates them, when there are more parameters than `most_parameters`.
  explicit Flow(const Json& description, Index most_parameters = std::numeric_limits<Index>::max()) {
    dim_ = json::integer_member(description, "dim", 1);
    context_ = json::integer_member(description, "context", 0);
    json::expect_names(description, {"dim", "context", "dtype", "base", "support", "layers"});
    data_side_ =
        DataSide(supports(description, dim_), registry::kind_of(json::member(description, "base")) == "Uniform");
    identity_ = AffineMap::identity(dim_);
    latent_columns_ = identity_columns(dim_);
    context_columns_ = identity_columns(context_);
    data_columns_ = latent_columns_;
    for (const Json& layer : json::array_member(description, "layers"))
      data_columns_ = registry::columns_behind(layer, data_columns_);
    registry::Place place{latent_columns_, std::vector<Domain>(static_cast<std::size_t>(dim_)), context_};
    for (Index feature = 0; feature < dim_; ++feature)
      place.domains[static_cast<std::size_t>(data_columns_[static_cast<std::size_t>(feature)])] =
          data_side_.domain(feature);
    latent_domains_ = place.domains;
    base_ = registry::base<Scalar>(json::member(description, "base"), latent_domains_);
    std::size_t position = 0;
    Index count = 0;
    for (const Json& layer : json::array_member(description, "layers")) {
      registry::append(layer, place, layers_);
      if (offsets_.size() < layers_.size()) {
        offsets_.push_back(count);
        count +=
            add_blocks(layers_.back()->parameters(), "layers." + std::to_string(position), most_parameters - count);
        cache_sum_ += layers_.back()->cache_columns();
        cache_largest_ = std::max(cache_largest_, layers_.back()->cache_columns());
        scratch_ = std::max(scratch_, layers_.back()->scratch_columns());
      }
      ++position;
    }
    base_offset_ = count;
    count += add_blocks(base_->parameters(), "base", most_parameters - count);
    parameters_.resize(count);
    parameters_.setZero();
    set_context_standardization(std::vector<double>(static_cast<std::size_t>(context_), 0.0),
                                std::vector<double>(static_cast<std::size_t>(context_), 1.0));
  }

  Index dim() const { return dim_; }
  Index context() const { return context_; }
  const std::vector<Domain>& latent_domains() const { return latent_domains_; }
  Index parameter_count() const { return parameters_.size(); }
  Scalar* parameters() { return parameters_.data(); }
  const std::vector<ParameterBlock>& parameter_blocks() const { return blocks_; }

  const DataSide& data_side() const { return data_side_; }

  void set_standardization(const std::vector<double>& shift, const std::vector<double>& scale) {
    data_side_.set_standardization(shift, scale);
  }
  void set_context_standardization(const std::vector<double>& shift, const std::vector<double>& scale) {
    AffineMap from_standard;
    set_affine_maps(shift, scale, context_, context_to_standard_, from_standard);
    context_unscale_grad_ = {std::vector<double>(scale.size(), 0.0), context_to_standard_.factor};
  }

  // forward takes latent points to data points, inverse the other way; context may be null when context() is 0.
  void map(Direction direction, const Table& input, const Table* context, const Results& results, int threads) const {
    pass(direction, input.rows, context, results, threads,
         [&](Index first, Index rows, Workspace<Scalar>& work) { read_state(direction, input, first, rows, work); });
  }

  // forward of points drawn from the base.
  void sample(const Draws& draws, Index rows, const Table* context, const Results& results, int threads) const {
    pass(Direction::forward, rows, context, results, threads, [&](Index first, Index count, Workspace<Scalar>& work) {
      base_->sample(parameters_.data() + base_offset_, {draws.key, draws.first_row + first}, whole_lanes(count),
                    work.state);
      data_side_.start_forward_log_det(work.log_det);
    });
  }

  // Rows of x as y (rows, dim): on the line, box or circle of each feature's support, not standardised. Infinite on a
  // bound, NaN for a value that is not finite or outside its support.
  void to_line(const Table& x, double* y, int threads) const {
    parallel_for(tile_count(x.rows), threads, [&](Index index, int) {
      const Index first = index * kTileRows;
      data_side_.to_line(x, first, std::min(kTileRows, x.rows - first), y);
    });
  }

  // The adjoint of a map; a density's seeds go with the inverse. Returns sum over rows of weight * log p(x) /
  // normalizer when the seeds are a density's and the parameters' gradient is asked for.
  double vjp(Direction direction, const Table& input, const Table* context, const Seeds& seeds,
             const Gradients& gradients, int threads) const {
    const WorkspaceShape shape{dim_, context_, cache_sum_, scratch_, true};
    const Index tiles = tile_count(input.rows);
    const int workers = team(tiles, threads);
    if (!gradients.parameters) {
      const auto memory = share_memory(shape, workers, 0);
      parallel_for(tiles, threads, [&](Index index, int thread) {
        Workspace<Scalar> work(shape, memory.workspace(thread));
        vjp_tile(direction, input, context, seeds, gradients, {}, index, work);
      });
      return 0;
    }
    const Index count = parameter_count();
    const SlotPlan plan(tiles, workers);
    const auto memory = share_memory(shape, workers, std::max<Index>(plan.items() - 1, 0));
    double sums[kGradientSlots] = {};
    const auto sum_of = [&](Index item) {
      return item == 0 ? gradients.parameters : memory.template slot<Scalar>(item - 1);
    };
    if (tiles == 0) std::fill_n(gradients.parameters, count, Scalar(0));
    parallel_for(plan.items(), threads, [&](Index item, int thread) {
      Workspace<Scalar> work(shape, memory.workspace(thread));
      const Index first = plan.first_tile(item);
      for (Index index = first; index < plan.end_tile(item); index += plan.stride())
        sums[index % kGradientSlots] +=
            vjp_tile(direction, input, context, seeds, gradients, {sum_of(item), index == first}, index, work);
    });
    if (plan.items() > 1 || gradients.norm) {
      const double norm = add_sums(plan, count, gradients.parameters, sum_of, memory.norms(), threads);
      if (gradients.norm) *gradients.norm = norm;
    }
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
  }

  // Sets the layers that start from data, from the x side on: each sees what the layers behind it, already set, make
  // of the rows. Weights as in Seeds.
  void initialize_from_data(const Table& x, const Table* context, const double* weights, int threads) {
    for (std::size_t layer = layers_.size(); layer-- > 0;) {
      // Only its own layer knows whether it wants moments: ask with a mean of 0 and a deviation of 1.
      std::vector<double> mean(static_cast<std::size_t>(dim_), 0.0), deviation(static_cast<std::size_t>(dim_), 1.0);
      if (!layers_[layer]->initialize(mean.data(), deviation.data(), parameters_.data() + offsets_[layer])) continue;
      moments(layer, x, context, weights, mean, deviation, threads);
      layers_[layer]->initialize(mean.data(), deviation.data(), parameters_.data() + offsets_[layer]);
    }
  }

 private:
  static constexpr bool kIsDouble = std::is_same_v<Scalar, double>;

  static Table table(const Scalar* data, Index rows, Index columns) {
    return {data, kIsDouble, rows, columns, columns, 1, nullptr};
  }

  Table context_rows(const Scalar* context, Index rows, int threads) const {
    if (rows < 0 || threads < 1) throw std::invalid_argument("a call needs rows >= 0 and threads >= 1");
    if (rows > 0 && (context != nullptr) != (context_ > 0))
      throw std::invalid_argument(context_ > 0 ? "this flow needs a context" : "this flow has no context");
    return table(context, rows, context_);
  }

  // Takes over parameter blocks, their names preceded by `owner`; returns how many parameters they hold.
  Index add_blocks(std::vector<ParameterBlock> blocks, const std::string& owner, Index most) {
    const Index size = size_of(blocks);
    if (size > most) throw std::invalid_argument("the description has more parameters than there are");
    for (auto& block : blocks) {
      block.name = owner + "." + block.name;
      blocks_.push_back(std::move(block));
    }
    return size;
  }

  struct Memory {
    std::byte* start;
    std::size_t workspace_bytes, slots_start, slot_bytes, norms_start;
    std::byte* workspace(int thread) const { return start + static_cast<std::size_t>(thread) * workspace_bytes; }
    template <class T>
    T* slot(Index i) const {
      return reinterpret_cast<T*>(start + slots_start + static_cast<std::size_t>(i) * slot_bytes);
    }
    double* norms() const { return reinterpret_cast<double*>(start + norms_start); }  // of pieces of a gradient
  };

  static std::vector<Index> identity_columns(Index count) {
    std::vector<Index> columns(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<Index>(i);
    return columns;
  }

  static Index tile_count(Index rows) { return (rows + kTileRows - 1) / kTileRows; }
  static int team(Index tiles, int threads) { return static_cast<int>(std::clamp<Index>(tiles, 1, threads)); }

  std::size_t in_order(Direction direction, std::size_t i) const {
    return direction == Direction::forward ? i : layers_.size() - 1 - i;
  }

  Memory share_memory(const WorkspaceShape& shape, int threads, Index slots) const {
    Memory memory{};
    memory.workspace_bytes = Workspace<Scalar>::bytes(shape);
    memory.slots_start = memory.workspace_bytes * static_cast<std::size_t>(threads);
    memory.slot_bytes = aligned_size(static_cast<std::size_t>(parameter_count()) * sizeof(Scalar));
    memory.norms_start = memory.slots_start + memory.slot_bytes * static_cast<std::size_t>(slots);
    const auto pieces = static_cast<std::size_t>(parameter_pieces(parameter_count()));
    memory.start = Arena::of_this_thread().reserve(memory.norms_start + pieces * sizeof(double));
    return memory;
  }

  // Takes all tiles through the flow; start(first, rows, work) fills in a tile's state, its log_det and what is bad.
  template <class Start>
  void pass(Direction direction, Index rows, const Table* context, const Results& results, int threads,
            Start&& start) const {
    const WorkspaceShape shape{dim_, context_, cache_largest_, 0, false};
    const Index tiles = tile_count(rows);
    const auto memory = share_memory(shape, team(tiles, threads), 0);
    parallel_for(tiles, threads, [&](Index index, int thread) {
      Workspace<Scalar> work(shape, memory.workspace(thread));
      const Tile<Scalar> tile = begin(rows, context, index, work, start);
      const Index first = index * kTileRows;
      if (direction == Direction::forward && results.log_prob) base_log_prob(tile, work);
      for (std::size_t i = 0; i < layers_.size(); ++i) {
        const std::size_t k = in_order(direction, i);
        layers_[k]->map(direction, parameters_.data() + offsets_[k], tile, work.cache);
      }
      if (direction == Direction::inverse && results.log_prob) base_log_prob(tile, work);
      if (direction == Direction::forward && (results.log_det || results.log_prob))
        data_side_.add_forward_log_det(tile.state, tile.rows, data_columns_.data(), work.log_det);
      if (results.output.data) store(direction, tile, first, work, results.output);
      if (results.log_det) copy_rows(work.log_det, work.bad, tile.rows, results.log_det + first);
      if (results.log_prob) {
        density(direction, tile, work);
        copy_density(work, tile.rows, results.log_prob + first);
      }
    });
  }

  // Latent points as they are, data points through the data side.
  void read_state(Direction direction, const Table& input, Index first, Index rows, Workspace<Scalar>& work) const {
    if (direction == Direction::forward) {
      read(input, first, rows, identity_, latent_columns_.data(), work.state, work.bad);
      data_side_.start_forward_log_det(work.log_det);
    } else {
      data_side_.read(input, first, rows, data_columns_.data(), work.state, work.log_det, work.bad, work.outside);
    }
  }

  template <class Start>
  Tile<Scalar> begin(Index all_rows, const Table* context, Index index, Workspace<Scalar>& work, Start&& start) const {
    const Index first = index * kTileRows, rows = std::min(kTileRows, all_rows - first);
    std::fill_n(work.bad, kTileRows, false);
    std::fill_n(work.outside, kTileRows, false);
    start(first, rows, work);
    if (context_ > 0)
      read(*context, first, rows, context_to_standard_, context_columns_.data(), work.context, work.bad);
    if (data_side_.is_bounded())
      for (Index row = 0; row < rows; ++row) {
        work.outside[row] &= !work.bad[row];
        work.bad[row] |= work.outside[row];
      }
    return {rows, whole_lanes(rows), work.state, work.context, work.log_det};
  }

  Tile<Scalar> load(Direction direction, const Table& input, const Table* context, Index index,
                    Workspace<Scalar>& work) const {
    return begin(input.rows, context, index, work, [&](Index first, Index rows, Workspace<Scalar>& to) {
      read_state(direction, input, first, rows, to);
    });
  }

  void store(Direction direction, const Tile<Scalar>& tile, Index first, const Workspace<Scalar>& work,
             Output to) const {
    if (direction == Direction::forward)
      data_side_.write(tile.state, first, tile.rows, data_columns_.data(), work.bad, to);
    else
      write(tile.state, first, tile.rows, dim_, identity_, latent_columns_.data(), work.bad, to);
  }

  void base_log_prob(const Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    std::fill_n(work.log_prob, kTileRows, 0.0);
    base_->log_prob(parameters_.data() + base_offset_, tile.padded, tile.state, work.log_prob);
  }

  // log p(x) = log p_base(z) + log|det dz/dx|; there is no density outside the support.
  void density(Direction direction, const Tile<Scalar>& tile, Workspace<Scalar>& work) const {
    const double sign = direction == Direction::inverse ? 1.0 : -1.0;
    for (Index row = 0; row < tile.rows; ++row) work.log_prob[row] += sign * work.log_det[row];
    if (data_side_.is_bounded())
      for (Index row = 0; row < tile.rows; ++row)
        if (work.outside[row]) work.log_prob[row] = -std::numeric_limits<double>::infinity();
  }

  static void copy_rows(const double* from, const bool* bad, Index rows, double* to) {
    for (Index row = 0; row < rows; ++row) to[row] = bad[row] ? NAN : from[row];
  }

  void copy_density(const Workspace<Scalar>& work, Index rows, double* to) const {
    copy_rows(work.log_prob, work.bad, rows, to);
    if (data_side_.is_bounded())
      for (Index row = 0; row < rows; ++row)
        if (work.outside[row]) to[row] = work.log_prob[row];
  }

  // Where a tile's derivatives by the parameters go, if anybody asks; `begins` when nothing is there yet.
  struct GradientSum {
    Scalar* data = nullptr;
    bool begins = false;

    // The part from `first` to `last`, cleared when the first tile comes to it: it stays in cache for what is then
    // added to it, which the whole sum would not.
    Scalar* block(Index first, Index last) const {
      if (!data) return nullptr;
      if (begins) std::fill_n(data + first, last - first, Scalar(0));
      return data + first;
    }
  };

  Index block_end(std::size_t layer) const { return layer + 1 < offsets_.size() ? offsets_[layer + 1] : base_offset_; }

  double vjp_tile(Direction direction, const Table& input, const Table* context, const Seeds& seeds,
                  const Gradients& gradients, GradientSum parameters, Index index, Workspace<Scalar>& work) const {
    Tile<Scalar> tile = load(direction, input, context, index, work);
    tile.keeps = true;
    const Index first = index * kTileRows;
    const Dropout dropout{seeds.dropout, first};
    Scalar* cache = work.cache;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const std::size_t k = in_order(direction, i);
      tile.dropout = dropout.part(k);
      layers_[k]->map(direction, parameters_.data() + offsets_[k], tile, cache);
      cache += layers_[k]->cache_columns() * kTileRows;
    }

    double sum = 0;
    std::fill_n(work.grad_log_det, kTileRows, Scalar(0));
    Scalar* dbase = parameters.block(base_offset_, parameter_count());
    if (seeds.output) {
      if (direction == Direction::forward)
        data_side_.read_grad(*seeds.output, seeds.log_det, input.is_double, first, tile.rows, data_columns_.data(),
                             tile.state, work.grad_state, work.bad);
      else
        read(*seeds.output, first, tile.rows, identity_, latent_columns_.data(), work.grad_state, work.bad);
      for (Index row = 0; row < tile.rows; ++row)
        work.grad_log_det[row] = static_cast<Scalar>(seeds.log_det[first + row]);
      // NaN seeds spoil exactly what depends on a bad row: its own results, and any sum over rows.
      for (Index row = 0; row < tile.rows; ++row) {
        if (!work.bad[row]) continue;
        work.grad_log_det[row] = std::numeric_limits<Scalar>::quiet_NaN();
        for (Index i = 0; i < dim_; ++i) work.grad_state[i * kTileRows + row] = work.grad_log_det[row];
      }
    } else {
      base_log_prob(tile, work);
      density(direction, tile, work);
      for (Index row = 0; row < tile.rows; ++row) {
        const double weight = seeds.weights ? seeds.weights[input.index ? input.index[first + row] : first + row] : 1.0;
        const double share = (work.bad[row] ? NAN : weight) / seeds.normalizer;
        sum += (work.outside[row] ? weight / seeds.normalizer : share) * work.log_prob[row];
        work.grad_log_det[row] = static_cast<Scalar>(share);
      }
      base_->vjp(parameters_.data() + base_offset_, tile.padded, tile.state, work.grad_log_det, work.grad_state, dbase);
      if (gradients.log_prob) copy_density(work, tile.rows, gradients.log_prob + first);
    }

    const bool wants_context = gradients.context.data != nullptr;
    if (wants_context) std::fill_n(work.grad_context, context_ * kTileRows, Scalar(0));
    TileGrad<Scalar> grad{work.grad_state, wants_context ? work.grad_context : nullptr, work.grad_log_det, nullptr};
    for (std::size_t i = layers_.size(); i-- > 0;) {
      const std::size_t k = in_order(direction, i);
      cache -= layers_[k]->cache_columns() * kTileRows;
      grad.parameters = parameters.block(offsets_[k], block_end(k));
      layers_[k]->vjp(direction, parameters_.data() + offsets_[k], tile, cache, grad, work.scratch);
    }

    if (gradients.input.data) {
      if (direction == Direction::forward)
        write(work.grad_state, first, tile.rows, dim_, identity_, latent_columns_.data(), work.bad, gradients.input);
      else
        data_side_.write_grad(work.grad_state, work.grad_log_det, input, first, tile.rows, data_columns_.data(),
                              work.bad, gradients.input);
    }
    if (wants_context)
      write(work.grad_context, first, tile.rows, context_, context_unscale_grad_, context_columns_.data(), work.bad,
            gradients.context);
    return sum;
  }

  // Weighted mean and standard deviation, by column of the state, on the x side of a layer: one pass over tiles, each
  // tile's shifted sums combined in order (Chan, Golub, LeVeque 1983). Rows further than `farthest` standard deviations
  // out in a feature of the data are left out, unless there are no others: one of them could outweigh all the rest.
  void moments(std::size_t layer, const Table& x, const Table* context, const double* weights,
               std::vector<double>& mean, std::vector<double>& deviation, int threads,
               double farthest = kFarthestStart) const {
    const WorkspaceShape shape{dim_, context_, cache_largest_, 0, false};
    const Index tiles = tile_count(x.rows);
    const auto width = static_cast<std::size_t>(dim_);
    std::vector<double> weight(static_cast<std::size_t>(tiles)), means(weight.size() * width),
        squares(weight.size() * width);
    const auto memory = share_memory(shape, team(tiles, threads), 0);
    parallel_for(tiles, threads, [&](Index index, int thread) {
      Workspace<Scalar> work(shape, memory.workspace(thread));
      const Tile<Scalar> tile = load(Direction::inverse, x, context, index, work);
      bool far[kTileRows] = {};
      for (Index i = 0; i < dim_; ++i)
        for (Index row = 0; row < tile.rows; ++row)
          far[row] |= std::abs(static_cast<double>(tile.state[i * kTileRows + row])) > farthest;
      for (std::size_t k = layers_.size(); --k > layer;)
        layers_[k]->map(Direction::inverse, parameters_.data() + offsets_[k], tile, work.cache);
      const auto at = static_cast<std::size_t>(index);
      const auto weight_of = [&](Index row) {
        return far[row] ? 0.0 : weights ? weights[index * kTileRows + row] : 1.0;
      };
      for (Index row = 0; row < tile.rows; ++row) weight[at] += weight_of(row);
      if (!(weight[at] > 0)) return;
      for (std::size_t i = 0; i < width; ++i) {
        const Scalar* column = tile.state + static_cast<Index>(i) * kTileRows;
        double sum = 0, square = 0;
        for (Index row = 0; row < tile.rows; ++row)
          if (!far[row]) sum += weight_of(row) * static_cast<double>(column[row]);
        const double center = sum / weight[at];
        for (Index row = 0; row < tile.rows; ++row)
          if (!far[row]) square += weight_of(row) * std::pow(static_cast<double>(column[row]) - center, 2);
        means[at * width + i] = center;
        squares[at * width + i] = square;
      }
    });
    if (std::isfinite(farthest) && std::none_of(weight.begin(), weight.end(), [](double w) { return w > 0; })) {
      moments(layer, x, context, weights, mean, deviation, threads, std::numeric_limits<double>::infinity());
      return;
    }
    for (std::size_t i = 0; i < width; ++i) {
      double total = 0, center = 0, square = 0;
      for (std::size_t at = 0; at < weight.size(); ++at) {
        if (!(weight[at] > 0)) continue;
        const double step = means[at * width + i] - center, next = total + weight[at];
        square += squares[at * width + i] + step * step * total * weight[at] / next;
        center += step * weight[at] / next;
        total = next;
      }
      mean[i] = center;
      deviation[i] = total > 0 ? std::sqrt(square / total) : 1.0;
    }
  }

  Index dim_ = 0, context_ = 0;
  std::unique_ptr<Base<Scalar>> base_;
  std::vector<Domain> latent_domains_;
  std::vector<std::unique_ptr<Layer<Scalar>>> layers_;  // in generator order
  std::vector<Index> offsets_;                          // of each layer's parameters
  std::vector<ParameterBlock> blocks_;
  Index base_offset_ = 0;  // of the base's parameters
  Index cache_sum_ = 0, cache_largest_ = 0, scratch_ = 0;
  Eigen::Array<Scalar, Eigen::Dynamic, 1> parameters_;

  // The state's column of each latent feature, data feature, and the context's of each context feature.
  std::vector<Index> latent_columns_, data_columns_, context_columns_;
  DataSide data_side_;
  AffineMap context_to_standard_, context_unscale_grad_;
  AffineMap identity_;  // of dim() columns
};

}  // namespace pushforward
