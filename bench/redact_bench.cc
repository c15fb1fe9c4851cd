// Redaction and its way back, in bytes a second: ordinary texts, and texts made to be slow. The
// last kind shows that the cost stays linear: 64 KiB and 1 MiB must have about the same rate.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "crypto/signature.h"
#include "gateway/privacy/redactor.h"
#include "gateway/privacy/streaming_restorer.h"

namespace tandem::gateway::privacy {
namespace {

struct Text {
  const char* name;
  std::string_view unit;  // repeated up to the size
};

constexpr Text kTexts[] = {
    {"english",
     "Please look at my account and tell me what happened to the order of last week, since "
     "it cost 1,299.99 dollars and should have been here on 2023-11-05.\n"},
    {"chinese", "请帮我看看我的账户，价格是一千二百元，订单是2023年11月5日的。"},
    {"thai", "ช่วยตรวจสอบคำสั่งซื้อของฉันด้วยครับ ราคา 1,299 บาท วันที่ 05/11/2566 "},
    {"code",
     "for (const auto& item : items) { total += item.price * 1.19; std::printf(\"%d\", 42); }\n"},
    {"secrets",
     "Alice Smith <alice@example.com>, +49 30 901820, 4111 1111 1111 1111, 10.1.2.3, "
     "DE89 3704 0044 0532 0130 00, sk-abcdefghijklmnopqrst1234, 王小明.\n"},
    {"json", R"({"to":"alice@example.com","n":[1,2.50,true],"note":"nothing to see here"},)"},
    {"hostile_digits", "1 2 3 4 5 "},
    {"hostile_groups", "123456 "},
    {"hostile_cards", "4111 1111 1111 1112 "},
    {"hostile_at", "a@a."},
    {"hostile_jwt", "eyJ-eyJ.eyJ_"},
    {"hostile_sk", "sk-sk-"},
    {"hostile_pem", "-----BEGIN PRIVATE KEY----- x!"},
    {"hostile_colon", "a:b::"},
    {"hostile_bracket", "[EMAIL_1"},
    {"hostile_random", "key a8f3k2l9q7w1e5r4 "},
    {"hostile_names", "alice smit "},
    {"hostile_known", "token=9f86d081884c7d659a2feaa0c55ad015 9f86d081884c7d659a2feaa0c55ad01 "},
};

std::string Repeat(std::string_view unit, size_t n_bytes) {
  std::string text;
  while (text.size() < n_bytes) text += unit;
  return text;
}

const std::vector<std::string> kNames = {"Alice Smith", "王小明", "Nguyễn Văn An", "สมชาย ใจดี"};

GenerateRequest RequestOf(const Text& text, size_t n_bytes) {
  GenerateRequest request;
  request.request_id = "r";
  std::string content = Repeat(text.unit, n_bytes);
  if (text.unit.starts_with('{')) content = "[" + content + "0]";
  request.messages = {{.role = "user", .content = std::move(content)}};
  return request;
}

void BM_Redact(benchmark::State& state, const Text& text) {
  const Redactor redactor(kNames);
  const GenerateRequest request = RequestOf(text, static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    auto redaction = redactor.Redact(request);
    benchmark::DoNotOptimize(redaction);
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(request.messages[0].content.size()));
}

// Deltas of four bytes, as tokens are.
void BM_Restore(benchmark::State& state, const Text& text) {
  const Redactor redactor(kNames);
  const auto redaction = redactor.Redact(RequestOf(text, static_cast<size_t>(state.range(0))));
  const std::string sent = redaction->request.request().messages[0].content;
  for (auto _ : state) {
    StreamingRestorer restorer(redaction->map);
    size_t n_bytes = 0;
    for (size_t at = 0; at < sent.size(); at += 4) {
      n_bytes += restorer.Push(std::string_view(sent).substr(at, 4)).size();
    }
    benchmark::DoNotOptimize(n_bytes);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(sent.size()));
}

void BM_Sign(benchmark::State& state) {
  const crypto::SigningKey key = crypto::SigningKey::Generate();
  const std::string receipt(800, 'r');
  for (auto _ : state) benchmark::DoNotOptimize(key.Sign(receipt));
}

void BM_Verify(benchmark::State& state) {
  const crypto::SigningKey key = crypto::SigningKey::Generate();
  const crypto::PublicKey pub = key.Public();
  const std::string receipt(800, 'r');
  const std::string signature = key.Sign(receipt);
  for (auto _ : state) benchmark::DoNotOptimize(pub.Verify(receipt, signature));
}

const bool kRegistered = [] {
  for (const Text& text : kTexts) {
    const std::string name(text.name);
    auto* redact = benchmark::RegisterBenchmark(
        ("redact/" + name).c_str(), [&text](benchmark::State& state) { BM_Redact(state, text); });
    redact->Arg(64 << 10)->Arg(1 << 20)->Unit(benchmark::kMillisecond);
    if (!name.starts_with("hostile") || name == "hostile_bracket") {
      benchmark::RegisterBenchmark(("restore/" + name).c_str(), [&text](benchmark::State& state) {
        BM_Restore(state, text);
      })->Arg(64 << 10);
    }
  }
  benchmark::RegisterBenchmark("receipt/sign", BM_Sign);
  benchmark::RegisterBenchmark("receipt/verify", BM_Verify);
  return true;
}();

}  // namespace
}  // namespace tandem::gateway::privacy
