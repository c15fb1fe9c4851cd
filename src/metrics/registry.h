// Named figures and their Prometheus text (exposition format 0.0.4).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metrics/histogram.h"

namespace tandem::metrics {

// Name and value of each label. Values may hold anything; they are escaped when written. Never a
// prompt, a key or whatever else has unbounded or private values.
using Labels = std::vector<std::pair<std::string, std::string>>;

// Thread: any.
class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Thread: any.
class Gauge {
 public:
  void Set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// A Histogram that several threads add to.
class SharedHistogram {
 public:
  void Add(double value) {
    std::lock_guard lock(mutex_);
    histogram_.Add(value);
  }
  Histogram Snapshot() const {
    std::lock_guard lock(mutex_);
    return histogram_;
  }

 private:
  mutable std::mutex mutex_;
  Histogram histogram_;
};

// Owns every figure of a process; app/ makes one and hands it down. A figure lives as long as the
// registry, so callers keep the reference. Asking again for the same name and labels gives the same
// figure; the help text of the first call counts. A name must be used with one kind only
// (TANDEM_CHECK).
// Thread: any.
class Registry {
 public:
  Counter& GetCounter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& GetGauge(std::string_view name, std::string_view help, Labels labels = {});
  // `bounds`: the upper ends of the Prometheus buckets, ascending, without infinity.
  SharedHistogram& GetHistogram(std::string_view name, std::string_view help,
                                std::vector<double> bounds, Labels labels = {});
  // A gauge that is asked for its value when the text is made.
  void AddGaugeFunction(std::string_view name, std::string_view help, Labels labels,
                        std::function<double()> read);

  // Families by name, series in the order of their labels: the same figures give the same text.
  std::string PrometheusText() const;

 private:
  enum class Kind { kCounter, kGauge, kHistogram };
  struct Series {
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::function<double()> read;
    std::unique_ptr<SharedHistogram> histogram;
  };
  struct Family {
    Kind kind;
    std::string help;
    std::vector<double> bounds;
    std::map<std::string, Series> series;  // by the written labels, without braces
  };

  Series& Find(Kind kind, std::string_view name, std::string_view help, const Labels& labels);

  mutable std::mutex mutex_;
  std::map<std::string, Family, std::less<>> families_;
};

}  // namespace tandem::metrics
