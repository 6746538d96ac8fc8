// What may happen to the bytes of a file: a flow, an ensemble or the model of a table that works, or a FileFormatError.
// Everything else ends the program.
#pragma once

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "pushforward/pushforward.hpp"
#include "pushforward/table_flow.hpp"

template <class Scalar>
bool try_load_as(std::string_view bytes) {
  try {
    const auto flow = pushforward::Flow<Scalar>::parse(bytes);
    const auto dim = static_cast<std::size_t>(flow.dim()), context = static_cast<std::size_t>(flow.context());
    const std::vector<Scalar> row(dim, Scalar(0.5)), condition(context, Scalar(1));
    std::vector<Scalar> point(dim), gradient(static_cast<std::size_t>(flow.parameter_count()));
    const Scalar* conditions = context > 0 ? condition.data() : nullptr;
    double log_det;
    flow.forward(row.data(), 1, point.data(), &log_det, conditions, 1);
    flow.loss_and_grad(row.data(), 1, gradient.data(), conditions, 1);
    return true;
  } catch (const pushforward::FileFormatError&) {
    return false;
  }
}

// The same of an ensemble, which a flow's file gives too.
template <class Scalar>
bool try_load_ensemble_as(std::string_view bytes) {
  try {
    const auto ensemble = pushforward::Ensemble<Scalar>::parse(bytes);
    const auto dim = static_cast<std::size_t>(ensemble.dim()), context = static_cast<std::size_t>(ensemble.context());
    const std::vector<Scalar> condition(2 * context, Scalar(1));
    std::vector<Scalar> rows(2 * dim);
    double density[2];
    ensemble.sample({1, 3}, 2, rows.data(), density, context > 0 ? condition.data() : nullptr, 1);
    return true;
  } catch (const pushforward::FileFormatError&) {
    return false;
  }
}

// The same of the model of a table.
inline bool try_load_table(std::string_view bytes) {
  try {
    const auto flow = pushforward::TableFlow::parse(bytes);
    const std::size_t width = flow.columns().size();
    std::vector<double> rows;
    for (const double value : {0.0, 1.0, 0.3, 2.0, -1.0, 1e300, static_cast<double>(NAN)})
      rows.insert(rows.end(), width, value);
    std::vector<double> density(rows.size() / width);
    flow.log_prob(rows, density, 1);
    return true;
  } catch (const pushforward::FileFormatError&) {
    return false;
  }
}

inline bool try_load(std::string_view bytes) {
  const bool as_double = try_load_as<double>(bytes), as_float = try_load_as<float>(bytes);
  const bool ensemble = try_load_ensemble_as<double>(bytes), ensemble_as_float = try_load_ensemble_as<float>(bytes);
  // float64 holds whatever a file may; float32 may not.
  if ((as_float && !as_double) || (ensemble_as_float && !ensemble)) std::abort();
  if ((as_double && !ensemble) || (as_float && !ensemble_as_float)) std::abort();
  return ensemble || try_load_table(bytes);
}

// A file's parts: the length of the header, the header, the data.
inline constexpr std::size_t kLengthBytes = 8;

inline std::size_t header_end(std::string_view bytes) {
  std::uint64_t length = 0;
  if (bytes.size() < kLengthBytes) return bytes.size();
  std::memcpy(&length, bytes.data(), kLengthBytes);
  return kLengthBytes + static_cast<std::size_t>(std::min<std::uint64_t>(length, bytes.size() - kLengthBytes));
}

inline std::string joined(const std::string& header, std::string_view data) {
  const std::uint64_t length = header.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes.append(header).append(data);
}
