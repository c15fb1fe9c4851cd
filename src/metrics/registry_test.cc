#include "metrics/registry.h"

#include <gtest/gtest.h>

namespace tandem::metrics {
namespace {

// Expected texts are written by hand from Prometheus' description of the exposition format.
TEST(RegistryTest, WritesEveryKindInTheExpositionFormat) {
  Registry registry;
  registry.GetCounter("tandem_requests_total", "Requests by outcome.", {{"outcome", "ok"}}).Add(3);
  registry.GetCounter("tandem_requests_total", "", {{"outcome", "error"}}).Add();
  registry.GetGauge("tandem_queue", "Waiting requests.").Set(2.5);
  registry.AddGaugeFunction("tandem_memory_bytes", "Resident.", {}, [] { return 42.0; });
  auto& ttft = registry.GetHistogram("tandem_ttft_ms", "Time to first token.", {10, 100});
  ttft.Add(5);
  ttft.Add(50);
  ttft.Add(500);
  EXPECT_EQ(registry.PrometheusText(),
            "# HELP tandem_memory_bytes Resident.\n"
            "# TYPE tandem_memory_bytes gauge\n"
            "tandem_memory_bytes 42\n"
            "# HELP tandem_queue Waiting requests.\n"
            "# TYPE tandem_queue gauge\n"
            "tandem_queue 2.5\n"
            "# HELP tandem_requests_total Requests by outcome.\n"
            "# TYPE tandem_requests_total counter\n"
            "tandem_requests_total{outcome=\"error\"} 1\n"
            "tandem_requests_total{outcome=\"ok\"} 3\n"
            "# HELP tandem_ttft_ms Time to first token.\n"
            "# TYPE tandem_ttft_ms histogram\n"
            "tandem_ttft_ms_bucket{le=\"10\"} 1\n"
            "tandem_ttft_ms_bucket{le=\"100\"} 2\n"
            "tandem_ttft_ms_bucket{le=\"+Inf\"} 3\n"
            "tandem_ttft_ms_sum 555\n"
            "tandem_ttft_ms_count 3\n");
}

TEST(RegistryTest, LabelValuesAreEscaped) {
  Registry registry;
  registry.GetCounter("c", "a\nb", {{"x", "q\"b\\s\nn"}}).Add();
  EXPECT_EQ(registry.PrometheusText(),
            "# HELP c a\\nb\n# TYPE c counter\nc{x=\"q\\\"b\\\\s\\nn\"} 1\n");
}

TEST(RegistryTest, TheSameNameAndLabelsAreTheSameFigure) {
  Registry registry;
  Counter& first = registry.GetCounter("c", "", {{"a", "1"}});
  EXPECT_EQ(&first, &registry.GetCounter("c", "", {{"a", "1"}}));
  EXPECT_NE(&first, &registry.GetCounter("c", "", {{"a", "2"}}));
}

}  // namespace
}  // namespace tandem::metrics
