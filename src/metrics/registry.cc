#include "metrics/registry.h"

#include <cmath>

#include <fmt/format.h>

#include "base/check.h"

namespace tandem::metrics {
namespace {

std::string Escape(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string WriteLabels(const Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    if (!out.empty()) out += ',';
    out += fmt::format("{}=\"{}\"", name, Escape(value, true));
  }
  return out;
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

void WriteSample(std::string_view name, std::string_view labels, std::string_view value,
                 std::string* out) {
  *out += labels.empty() ? fmt::format("{} {}\n", name, value)
                         : fmt::format("{}{{{}}} {}\n", name, labels, value);
}

void WriteHistogram(const std::string& name, const std::string& labels,
                    const std::vector<double>& bounds, const Histogram& histogram,
                    std::string* out) {
  const std::string comma = labels.empty() ? "" : labels + ",";
  for (const double bound : bounds) {
    const uint64_t below = histogram.count() - histogram.CountAbove(bound);
    WriteSample(name + "_bucket", fmt::format("{}le=\"{}\"", comma, Number(bound)),
                std::to_string(below), out);
  }
  WriteSample(name + "_bucket", comma + "le=\"+Inf\"", std::to_string(histogram.count()), out);
  WriteSample(name + "_sum", labels, Number(histogram.sum()), out);
  WriteSample(name + "_count", labels, std::to_string(histogram.count()), out);
}

}  // namespace

Registry::Series& Registry::Find(Kind kind, std::string_view name, std::string_view help,
                                 const Labels& labels) {
  auto family = families_.find(name);
  if (family == families_.end()) {
    family = families_.emplace(name, Family{kind, std::string(help), {}, {}}).first;
  }
  TANDEM_CHECK(family->second.kind == kind);
  return family->second.series[WriteLabels(labels)];
}

Counter& Registry::GetCounter(std::string_view name, std::string_view help, Labels labels) {
  std::lock_guard lock(mutex_);
  Series& series = Find(Kind::kCounter, name, help, labels);
  if (!series.counter) series.counter = std::make_unique<Counter>();
  return *series.counter;
}

Gauge& Registry::GetGauge(std::string_view name, std::string_view help, Labels labels) {
  std::lock_guard lock(mutex_);
  Series& series = Find(Kind::kGauge, name, help, labels);
  if (!series.gauge) series.gauge = std::make_unique<Gauge>();
  return *series.gauge;
}

SharedHistogram& Registry::GetHistogram(std::string_view name, std::string_view help,
                                        std::vector<double> bounds, Labels labels) {
  std::lock_guard lock(mutex_);
  Series& series = Find(Kind::kHistogram, name, help, labels);
  if (!series.histogram) series.histogram = std::make_unique<SharedHistogram>();
  families_.find(name)->second.bounds = std::move(bounds);
  return *series.histogram;
}

void Registry::AddGaugeFunction(std::string_view name, std::string_view help, Labels labels,
                                std::function<double()> read) {
  std::lock_guard lock(mutex_);
  Find(Kind::kGauge, name, help, labels).read = std::move(read);
}

std::string Registry::PrometheusText() const {
  static constexpr const char* kKindNames[] = {"counter", "gauge", "histogram"};
  std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : families_) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, Escape(family.help, false), name,
                       kKindNames[static_cast<int>(family.kind)]);
    for (const auto& [labels, series] : family.series) {
      if (series.counter) {
        WriteSample(name, labels, std::to_string(series.counter->value()), &out);
      } else if (series.read) {
        WriteSample(name, labels, Number(series.read()), &out);
      } else if (series.gauge) {
        WriteSample(name, labels, Number(series.gauge->value()), &out);
      } else if (series.histogram) {
        WriteHistogram(name, labels, family.bounds, series.histogram->Snapshot(), &out);
      }
    }
  }
  return out;
}

}  // namespace tandem::metrics
