// Convolutional networks: plain and residual ones, both as a list of stages, target = convolution(activation(source)) +
// residual. A context is a dense layer into the first stage, the same for all pixels.
#pragma once

#include <cmath>
#include <optional>

#include "pushforward/network/activation.hpp"
#include "pushforward/network/conditioner.hpp"
#include "pushforward/network/dropout.hpp"
#include "pushforward/network/image_ports.hpp"

namespace pushforward {

struct ImageNetworkOptions {
  Padding padding;
  Activation activation;
  double dropout = 0;
};

template <class Scalar>
class ImageNetwork final : public Conditioner<Scalar> {
 public:
  // kernels: of each hidden layer, and of the last one.
  static std::unique_ptr<ImageNetwork> conv_net(const ImagePorts& ports, Index hidden,
                                                const std::vector<Index>& kernels, const ImageNetworkOptions& options) {
    auto network = std::unique_ptr<ImageNetwork>(new ImageNetwork(ports, options));
    Region source = network->input_;
    for (std::size_t i = 0; i + 1 < kernels.size(); ++i)
      source = network->add(std::to_string(i), hidden, kernels[i], source, i > 0, std::nullopt);
    network->add_last(std::to_string(kernels.size() - 1), kernels.back(), source, kernels.size() > 1);
    return network;
  }

  // As the dense residual network: a convolution, blocks h +
  // convolution(dropout(activation(convolution(activation(h))))), and a convolution.
  static std::unique_ptr<ImageNetwork> conv_resnet(const ImagePorts& ports, Index hidden, Index blocks, Index kernel,
                                                   const ImageNetworkOptions& options) {
    auto network = std::unique_ptr<ImageNetwork>(new ImageNetwork(ports, options));
    Region stream = network->add("first", hidden, kernel, network->input_, false, std::nullopt);
    for (Index block = 0; block < blocks; ++block) {
      const std::string name = "blocks." + std::to_string(block);
      const Region within = network->add(name + ".0", hidden, kernel, stream, true, std::nullopt, true);
      const std::size_t branch = network->stages_.size() - 1;
      stream = network->add(name + ".1", hidden, kernel, within, true, stream);
      network->stages_.back().drops = options.dropout > 0;
      network->stages_[branch].skipped_to = stream;
    }
    network->add_last("last", kernel, stream, false);
    return network;
  }

  // Layers start as those of dense networks do.
  std::vector<ParameterBlock> parameters() const override {
    std::vector<ParameterBlock> blocks;
    for (const Stage& stage : stages_) {
      const Convolution& shape = stage.shape;
      const double bound = &stage == &stages_.back() ? 0.0 : 1.0 / std::sqrt(static_cast<double>(shape.fan_in()));
      blocks.push_back(
          {stage.name + ".weight", {shape.outputs(), shape.kernel(), shape.kernel(), shape.inputs()}, bound});
      if (reads_context(stage)) blocks.push_back({stage.name + ".context", {shape.outputs(), context_.count}, bound});
      blocks.push_back({stage.name + ".bias", {shape.outputs()}, bound});
    }
    return blocks;
  }

  Index tile_rows() const override { return kConvolutionRows; }
  Index cache_columns() const override { return layout_.count(); }
  Index evaluate_scratch_columns() const override { return weight_columns_; }
  Index vjp_scratch_columns() const override { return std::max(transposed_, whole_lanes(context_.count)); }

  void evaluate(const Scalar* parameters, const DropoutKey& dropout, Index padded, Columns<Scalar> cache,
                Columns<Scalar> scratch, Columns<Scalar> output) const override {
    const V leak = leak_of(options_.activation);
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Stage& stage = stages_[i];
      const Convolution& shape = stage.shape;
      if (stage.active && !is_rectified(stage)) {
        const auto slopes = stage.slopes ? cache[*stage.slopes] : Columns<Scalar>();
        activate<Scalar>(options_.activation, padded, shape.input_columns(), cache[stage.source], cache[stage.values],
                         slopes);
        if (stage.drops && dropout.drops())
          drop(dropout.part(i), options_.dropout, 0, padded, shape.input_columns(), cache[stage.values], slopes);
      }
      const auto target = stage.target ? cache[*stage.target] : output;
      const auto residual = stage.residual ? cache[*stage.residual] : Columns<Scalar>();
      const Columns<const Scalar> starts =
          reads_context(stage) ? context_starts(parameters, padded, cache) : Columns<Scalar>();
      const Scalar* bias = starts ? nullptr : parameters + stage.bias_offset;
      convolve<Scalar>(
          shape, outputs_together(shape, parameters + stage.offset, scratch.data()), padded, cache[stage.values],
          [=](Index output_channel) { return bias ? bias[output_channel] : Scalar(0); },
          [=, outputs = shape.outputs(), rectifies = stage.rectifies](Index site, Index channel, Index row, V sum) {
            const Index column = site * outputs + channel;
            if (starts) sum += V::load(starts[channel] + row);
            if (residual) sum += V::load(residual[column] + row);
            if (rectifies) sum = max(sum, sum * leak);
            sum.store(target[column] + row);
          });
    }
  }

  // In the cache, the derivatives by the layers overwrite their values.
  void vjp(const Scalar* parameters, const DropoutKey&, Index rows, Index padded, Columns<Scalar> cache,
           Columns<const Scalar> doutput, Scalar* dparameters, Columns<Scalar> scratch) const override {
    for (std::size_t i = stages_.size(); i-- > 0;) {
      const Stage& stage = stages_[i];
      const Columns<const Scalar> dtarget = stage.target ? cache[*stage.target] : doutput;
      if (dparameters)
        WeightGradient<Scalar>(stage.shape)
            .add(rows, padded, cache[stage.values], dtarget, scratch.data(), dparameters + stage.offset);
      if (reads_context(stage))
        context_vjp(parameters, rows, padded, cache, dtarget, dparameters, scratch);
      else if (dparameters)
        add_site_sums<Scalar>(padded, stage.shape.output_sites(), stage.shape.outputs(), dtarget,
                              dparameters + stage.bias_offset);
      vjp_input(stage, parameters, padded, cache, dtarget);
    }
  }

 private:
  using V = Vec<Scalar>;

  // Regions are those of the cache.
  struct Stage {
    std::string name;
    Convolution shape;
    Index offset, bias_offset;         // of its parameters
    Region source;                     // its input
    bool active;                       // whether the input goes through the activation first
    Region values;                     // what the convolution reads: source, or its activation
    std::optional<Region> slopes;      // of the activation, if they are kept
    std::optional<Region> target;      // its result; none: the network's output
    std::optional<Region> residual;    // added to the result
    std::optional<Region> skipped_to;  // the later result that source is the residual of
    bool drops = false;                // whether dropout follows the activation
    bool rectifies = false;            // whether the result is stored as the next stage's activation of it
  };

  ImageNetwork(const ImagePorts& ports, const ImageNetworkOptions& options)
      : options_(options),
        sites_(ports.inputs),
        output_sites_(ports.outputs),
        channels_(ports.input_channels),
        output_channels_(ports.output_channels),
        input_(layout_.take(ports.inputs.count() * ports.input_channels)),
        context_(layout_.take(ports.context)) {}

  // Appends a stage and returns its target. keeps_source: the source is read again later, so that its activation must
  // not overwrite it.
  Region add(std::string name, Index outputs, Index kernel, Region source, bool active, std::optional<Region> residual,
             bool keeps_source = false) {
    Stage& stage =
        begin(std::move(name), Sites::all(sites_.height, sites_.width), outputs, kernel, source, active, keeps_source);
    stage.target = layout_.take(stage.shape.output_columns());
    stage.residual = residual;
    return *stage.target;
  }

  void add_last(std::string name, Index kernel, Region source, bool active) {
    begin(std::move(name), output_sites_, output_channels_, kernel, source, active, false);
  }

  Stage& begin(std::string name, Sites to, Index outputs, Index kernel, Region source, bool active, bool keeps_source) {
    const Convolution shape(sites_, to, channels_, outputs, kernel, options_.padding);
    Stage stage{std::move(name), shape, parameter_count_, 0, source, active, source, {}, {}, {}, {}};
    const bool is_first = stages_.empty();
    stage.bias_offset = stage.offset + outputs * (shape.fan_in() + (is_first ? context_.count : 0));
    parameter_count_ = stage.bias_offset + outputs;
    if (active && keeps_source) stage.values = layout_.take(shape.input_columns());
    if (active && (keeps_slope(options_.activation) || options_.dropout > 0))
      stage.slopes = layout_.take(shape.input_columns());
    if (is_rectified(stage)) stages_.back().rectifies = true;
    weight_columns_ = std::max(weight_columns_, (outputs * shape.fan_in() + kTileRows - 1) / kTileRows);
    if (is_first && context_.count > 0) starts_ = layout_.take(outputs);
    transposed_ = std::max(transposed_, WeightGradient<Scalar>(shape).scratch_columns());
    sites_ = std::move(to);
    channels_ = outputs;
    stages_.push_back(std::move(stage));
    return stages_.back();
  }

  // Whether the stage before stores this one's activation, which costs nothing there. Not where the result itself is
  // needed, or dropout comes between.
  bool is_rectified(const Stage& stage) const {
    return stage.active && is_rectifier(options_.activation) && !stage.slopes &&
           stage.values.first == stage.source.first;
  }

  bool reads_context(const Stage& stage) const { return context_.count > 0 && &stage == &stages_.front(); }

  // The dense layer from the context to the first stage's channels, with that stage's bias.
  DenseShape context_shape() const { return {{context_.count}, {stages_.front().shape.outputs()}, context_.count}; }
  Index context_offset() const {
    return stages_.front().offset + stages_.front().shape.outputs() * stages_.front().shape.fan_in();
  }

  Columns<Scalar> context_starts(const Scalar* parameters, Index padded, Columns<Scalar> cache) const {
    const auto starts = cache[starts_];
    dense<Scalar>(context_shape(), {0, 1}, parameters + context_offset(), padded, cache[context_],
                  [=](Index unit, Index row, V sum) { sum.store(starts[unit] + row); });
    return starts;
  }

  // Each pixel's derivative is one by the sums of the context; that by the context overwrites it.
  void context_vjp(const Scalar* parameters, Index rows, Index padded, Columns<Scalar> cache,
                   Columns<const Scalar> dtarget, Scalar* dparameters, Columns<Scalar> scratch) const {
    const Convolution& shape = stages_.front().shape;
    const auto dstarts = cache[starts_];
    for (Index channel = 0; channel < shape.outputs(); ++channel)
      for (Index row = 0; row < padded; row += V::kWidth) {
        V sum = 0;
        for (Index site = 0; site < shape.output_sites(); ++site)
          sum += V::load(dtarget[site * shape.outputs() + channel] + row);
        sum.store(dstarts[channel] + row);
      }
    if (dparameters)
      dense_vjp_parameters<Scalar>(context_shape(), rows, padded, cache[context_], dstarts, scratch.data(),
                                   dparameters + context_offset());
    const auto dcontext = cache[context_];
    dense_vjp_input<Scalar>(context_shape(), {0, 1}, parameters + context_offset(), padded, dstarts,
                            [=](Index input, Index row, V sum) { sum.store(dcontext[input] + row); });
  }

  // d values = the convolution's adjoint of d target, d source = slope * d values + the derivative by what source was
  // added to.
  void vjp_input(const Stage& stage, const Scalar* parameters, Index padded, Columns<Scalar> cache,
                 Columns<const Scalar> dtarget) const {
    Columns<Scalar> slopes, values;
    if (stage.slopes) {
      slopes = cache[*stage.slopes];
    } else if (is_rectified(stage)) {
      values = cache[stage.values];
    } else if (stage.active) {
      slopes = cache[stage.values];  // which are not needed any more
      slopes_of<Scalar>(options_.activation, padded, stage.shape.input_columns(), slopes, slopes);
    }
    const auto dsum = stage.skipped_to ? cache[*stage.skipped_to] : Columns<Scalar>();
    const auto dsource = cache[stage.source];
    const V leak = leak_of(options_.activation);
    convolve_vjp_input<Scalar>(stage.shape, parameters + stage.offset, padded, dtarget,
                               [=, inputs = stage.shape.inputs()](Index site, Index channel, Index row, V sum) {
                                 const Index column = site * inputs + channel;
                                 if (slopes) sum = sum * V::load(slopes[column] + row);
                                 if (values) sum = V::select(V::load(values[column] + row) > V(0), sum, sum * leak);
                                 if (dsum) sum += V::load(dsum[column] + row);
                                 sum.store(dsource[column] + row);
                               });
  }

  std::vector<Stage> stages_;
  ImageNetworkOptions options_;
  Sites sites_, output_sites_;        // of the next stage's input, and of the output
  Index channels_, output_channels_;  // likewise
  ColumnLayout layout_;               // of the cache
  Region input_, context_;
  Region starts_;  // what the context adds to each channel of the first stage
  Index parameter_count_ = 0;
  Index weight_columns_ = 0;  // of scratch, for weights
  Index transposed_ = 0;      // columns of scratch for the gradients of weights
};

}  // namespace pushforward
