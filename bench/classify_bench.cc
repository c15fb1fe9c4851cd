// What classifying a prompt costs, on one core: by length and by language. Run with
// `build/release/bench/classify_bench --benchmark_repetitions=9` for medians.
#include <string>

#include <benchmark/benchmark.h>

#include "gateway/classify/classifier.h"

namespace tandem::gateway {
namespace {

constexpr std::string_view kEnglish =
    "Please read the following message from a customer and tell me what we should answer. The "
    "washing machine came on Tuesday, three days late, and the driver left it in front of the "
    "house although it was raining. When we plugged it in, the display showed an error and the "
    "door did not open. I called your support line twice and waited for twenty minutes each time. "
    "I would like to know when somebody can come and repair it, or whether I get a new one. ";
constexpr std::string_view kThai =
    "ช่วยอ่านข้อความต่อไปนี้จากลูกค้าและบอกว่าควรตอบอย่างไร เครื่องซักผ้ามาถึงเมื่อวันอังคาร ช้าไปสามวัน "
    "และคนส่งของวางไว้หน้าบ้านทั้งที่ฝนตก ";
constexpr std::string_view kChinese =
    "请阅读下面这位顾客的留言，告诉我应该怎么回复。洗衣机周二才到，晚了三天，司机在下雨的时候把它放"
    "在门口。"
    "插上电之后屏幕显示错误，门也打不开。";

std::string Prompt(std::string_view text, size_t n_bytes) {
  std::string prompt;
  while (prompt.size() < n_bytes) prompt += text;
  prompt.resize(n_bytes);  // may cut a character: as good a prompt as another
  return prompt;
}

void ClassifyText(benchmark::State& state, std::string_view text) {
  const std::string prompt = Prompt(text, static_cast<size_t>(state.range(0)));
  benchmark::DoNotOptimize(Classify(prompt));  // unpacks the model
  for (auto _ : state) benchmark::DoNotOptimize(Classify(prompt));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK_CAPTURE(ClassifyText, english, kEnglish)->Arg(50)->Arg(500)->Arg(2'000)->Arg(1'000'000);
BENCHMARK_CAPTURE(ClassifyText, thai, kThai)->Arg(500);
BENCHMARK_CAPTURE(ClassifyText, chinese, kChinese)->Arg(500);

}  // namespace
}  // namespace tandem::gateway
