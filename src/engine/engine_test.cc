#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "engine/gguf/file.h"
#include "engine/gguf/writer.h"
#include "engine/packing.h"
#include "engine/session/testing/recorder.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::engine {
namespace {

using session::testing::Recorder;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::filesystem::path Demo() {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / "models" / "demo" / "tandem-demo-q4_0.gguf";
}
std::filesystem::path Golden(const std::string& name) {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / ".." / "shared" / "golden" / name;
}

std::filesystem::path NoModel() {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / "CMakeLists.txt";
}

// The demo model as users run it; packed once for all tests.
const std::filesystem::path& DemoPackage() {
  static const os::TempDir dir;
  static const std::filesystem::path path = [] {
    auto package = dir.path() / "demo.tandem";
    const auto packed = Pack(Demo(), package, {.n_threads = 2});
    EXPECT_TRUE(packed) << packed.error().message;
    return package;
  }();
  return path;
}

EngineOptions SmallOptions() { return {.n_threads = 2, .context_tokens = 256, .max_sessions = 4}; }

std::unique_ptr<Engine> LoadDemo(const EngineOptions& options = SmallOptions()) {
  auto engine = Engine::Load(DemoPackage(), options);
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

Request Chat(std::string question, uint64_t seed = 1) {
  return {.prompt = ChatPrompt{.messages = {{.role = "user", .content = std::move(question)}},
                               .tools_json = ""},
          .sampling = {.temperature = 1.0F, .seed = seed},
          .max_tokens = 24};
}

// One request, waited for.
std::vector<int32_t> Ask(Engine& engine, Request request, Finished* finished = nullptr) {
  Recorder recorder;
  const auto id = engine.Submit(std::move(request), recorder.Sink());
  EXPECT_TRUE(id) << id.error().message;
  if (!id) return {};
  recorder.Wait();
  EXPECT_EQ(recorder.n_terminal(), 1);
  EXPECT_TRUE(recorder.finished()) << recorder.failed()->message;
  if (finished != nullptr) *finished = recorder.finished().value_or(Finished{});
  return recorder.token_ids();
}

TEST(EngineTest, InfoDescribesTheFile) {
  const auto engine = LoadDemo();
  const ModelInfo& info = engine->info();
  EXPECT_EQ(info.architecture, "phi3");
  EXPECT_FALSE(info.name.empty());
  EXPECT_EQ(info.file_bytes, std::filesystem::file_size(DemoPackage()));
  EXPECT_GT(info.n_parameters, 100'000U);
  EXPECT_THAT(info.quantization, HasSubstr("int4g32"));
  EXPECT_GE(info.vocab_size, (*engine->text())->n_tokens());
  EXPECT_EQ(engine->context_tokens(), 256);
  const auto read = ReadModelInfo(Demo());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->name, info.name);
  EXPECT_EQ(read->n_parameters, info.n_parameters);
  EXPECT_THAT(read->quantization, HasSubstr("Q4_0"));
  EXPECT_EQ(ReadModelInfo(DemoPackage())->quantization, info.quantization);
  // The head is tied, so all its rows are read; the rest are the layers' matrices.
  EXPECT_LT(info.head_products, info.products_per_token);
  EXPECT_LE(info.products_per_token, info.n_parameters + 16 * 256);
  EXPECT_GT(info.bits_per_weight(), 4.5);
  EXPECT_LT(info.bits_per_weight(), 8.5);
}

// The demo model of MiMo's architecture, packed once.
const std::filesystem::path& MtpDemoPackage() {
  static const os::TempDir dir;
  static const std::filesystem::path path = [] {
    auto package = dir.path() / "demo-mtp.tandem";
    const auto packed = Pack(Demo().parent_path() / "tandem-demo-mtp-q4_0.gguf", package, {});
    EXPECT_TRUE(packed) << packed.error().message;
    return package;
  }();
  return path;
}

constexpr const char* kShop =
    "You are the assistant of a shop.\nCatalogue:\n"
    "- Amber Kettle: price $24.90, colour dark green, weight 1.35 kg, stock 14\n"
    "- Lunar Chair: price $89.00, material polished wood, warranty 36 months\nOrders:\n"
    "- 48213: Cedar Lamp, shipped, arrives 14 May";

Request ShopChat(std::string question, float temperature, uint64_t seed) {
  Request request = Chat(std::move(question), seed);
  auto& messages = std::get<ChatPrompt>(request.prompt).messages;
  messages.insert(messages.begin(), {.role = "system", .content = kShop});
  request.sampling.temperature = temperature;
  request.max_tokens = 40;
  return request;
}

constexpr const char* kShopQuestions[] = {"How much is the Amber Kettle?",
                                          "What colour is the Amber Kettle?",
                                          "What is the Lunar Chair made of?",
                                          "How long is the warranty of the Lunar Chair?",
                                          "Where is my order 48213?",
                                          "Do you ship to Singapore?",
                                          "Translate good morning into Spanish.",
                                          "Who is the president of France?"};

// A real model and real drafts: the tokens are the same, greedy and sampled, alone and together.
TEST(EngineTest, AnswersAreTheSameWithEverySpeculationMode) {
  const auto answers = [&](SpeculationMode mode, bool together, SpeculationFigures* figures) {
    // Time stands still, so that whether drafts pay does not depend on the machine.
    const FakeClock clock;
    const auto engine =
        Engine::Load(MtpDemoPackage(),
                     {.n_threads = 2, .context_tokens = 512, .speculation = mode, .clock = &clock});
    EXPECT_TRUE(engine) << engine.error().message;
    std::vector<std::vector<int32_t>> result;
    for (const float temperature : {0.0F, 1.0F}) {
      std::vector<Recorder> recorders(std::size(kShopQuestions));
      for (size_t i = 0; i < recorders.size(); ++i) {
        EXPECT_TRUE(
            (*engine)->Submit(ShopChat(kShopQuestions[i], temperature, i), recorders[i].Sink()));
        if (!together) recorders[i].Wait();
      }
      for (Recorder& recorder : recorders) {
        recorder.Wait();
        EXPECT_TRUE(recorder.finished()) << recorder.failed()->message;
        result.push_back(recorder.token_ids());
      }
    }
    *figures = (*engine)->speculation();
    return result;
  };
  SpeculationFigures figures;
  const auto expected = answers(SpeculationMode::kOff, /*together=*/false, &figures);
  EXPECT_EQ(figures.steps, 0u);
  for (const SpeculationMode mode :
       {SpeculationMode::kMtp, SpeculationMode::kNgram, SpeculationMode::kAuto}) {
    for (const bool together : {false, true}) {
      EXPECT_EQ(answers(mode, together, &figures), expected) << SpeculationModeName(mode);
      if (mode == SpeculationMode::kAuto) continue;
      EXPECT_GT(figures.steps, 5u) << SpeculationModeName(mode);
    }
  }
}

TEST(EngineTest, MostDraftsOfTheMtpLayerAreRight) {
  const FakeClock clock;
  for (const KvPrecision precision : {KvPrecision::kInt8, KvPrecision::kF32}) {
    const auto engine = Engine::Load(MtpDemoPackage(), {.n_threads = 2,
                                                        .context_tokens = 512,
                                                        .kv_precision = precision,
                                                        .speculation = SpeculationMode::kMtp,
                                                        .clock = &clock});
    ASSERT_TRUE(engine) << engine.error().message;
    EXPECT_EQ((*engine)->info().n_mtp_layers, 1);
    for (const char* question : kShopQuestions) Ask(**engine, ShopChat(question, 0, 1));
    const SpeculationFigures::PerDrafter mtp = (*engine)->speculation().drafters[0];
    EXPECT_GT(mtp.drafted_tokens, 20u);
    EXPECT_GT(static_cast<double>(mtp.accepted_tokens),
              0.8 * static_cast<double>(mtp.drafted_tokens));
  }
}

TEST(EngineTest, MtpLayerTakesMemoryOnlyWhereItIsUsed) {
  const auto with = PlanMemory(MtpDemoPackage(), {.speculation = SpeculationMode::kAuto});
  const auto without = PlanMemory(MtpDemoPackage(), {.speculation = SpeculationMode::kNgram});
  ASSERT_TRUE(with && without);
  EXPECT_GT(with->weights_bytes, without->weights_bytes);
  EXPECT_GT(with->kv_cache_bytes, without->kv_cache_bytes);
  EXPECT_GT(with->scratch_bytes, without->scratch_bytes);
}

// The published form of a model: shards of BF16 and JSON.
TEST(EngineTest, AFolderOfSafetensorsIsPackedAndAnswersLikeTheGgufFile) {
  const os::TempDir dir;
  const std::filesystem::path folder = Demo().parent_path() / "tandem-demo-mtp";
  ASSERT_TRUE(IsModelFolder(folder));
  EXPECT_FALSE(IsModelFolder(Demo()));
  EXPECT_FALSE(*IsPackage(folder));
  const auto files = ModelFiles(folder);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_THAT(*files, SizeIs(7));
  const auto packed = Pack(folder, dir / "folder.tandem", {.scheme = "int8g32"});
  ASSERT_TRUE(packed) << packed.error().message;
  const auto a = Engine::Load(dir / "folder.tandem", SmallOptions());
  const auto b = Engine::Load(MtpDemoPackage(), SmallOptions());
  ASSERT_TRUE(a && b);
  EXPECT_EQ((*a)->info().n_mtp_layers, 1);
  int n_same = 0;
  for (const char* question : kShopQuestions) {
    n_same += Ask(**a, ShopChat(question, 0, 1)) == Ask(**b, ShopChat(question, 0, 1)) ? 1 : 0;
  }
  EXPECT_GE(n_same, 6) << "one has 4 bits, the other 8";
}

TEST(EngineTest, EveryKindOfPromptIsAnswered) {
  const auto engine = LoadDemo();
  Finished finished;
  const std::vector<int32_t> chat = Ask(*engine, Chat("Hello"), &finished);
  EXPECT_FALSE(chat.empty());
  EXPECT_GT(finished.usage.prompt_tokens, 3);
  EXPECT_GT(finished.timings.ttft_ms, 0);
  EXPECT_GE(finished.timings.e2e_ms, finished.timings.ttft_ms);
  // The same prompt written out, and as ids.
  const ChatPrompt prompt = std::get<ChatPrompt>(Chat("Hello").prompt);
  const auto ids = (*engine->text())->RenderChat(prompt.messages, "");
  ASSERT_TRUE(ids);
  Request request = Chat("Hello");
  request.prompt = TokenPrompt{*ids};
  EXPECT_EQ(Ask(*engine, std::move(request)), chat);
  request = Chat("Hello");
  request.prompt = TextPrompt{*(*engine->text())->Decode(*ids, TextCodec::Specials::kTokens)};
  EXPECT_EQ(Ask(*engine, std::move(request)), chat);
}

TEST(EngineTest, SameRequestSameTokensWhateverElseRunsAndHoweverManyThreads) {
  const std::vector<std::string> questions = {
      "Do you ship to Singapore?",
      "hello",
      "What is the price of the lamp, and which colours are there?",
      "Where is my order 12345?",
      "x",
      "Translate good morning into German."};
  std::vector<std::vector<int32_t>> alone;
  {
    const auto engine =
        LoadDemo({.n_threads = 1, .context_tokens = 256, .max_sessions = 1, .max_kept_caches = 0});
    for (size_t i = 0; i < questions.size(); ++i) {
      alone.push_back(Ask(*engine, Chat(questions[i], i)));
    }
  }
  const auto engine = LoadDemo(
      {.n_threads = 2, .context_tokens = 256, .max_sessions = 4, .prefill_chunk_tokens = 5});
  for (int round = 0; round < 2; ++round) {  // the second one finds kept caches
    std::vector<Recorder> recorders(questions.size());
    for (size_t i = 0; i < questions.size(); ++i) {
      ASSERT_TRUE(engine->Submit(Chat(questions[i], i), recorders[i].Sink()));
    }
    for (size_t i = 0; i < questions.size(); ++i) {
      recorders[i].Wait();
      EXPECT_EQ(recorders[i].token_ids(), alone[i]) << "round " << round << " question " << i;
    }
  }
}

TEST(EngineTest, NextTurnReusesTheCacheAndSaysTheSame) {
  const auto engine = LoadDemo();
  std::vector<ChatMessage> messages = {{.role = "user", .content = "Hello, who are you?"}};
  for (int turn = 0; turn < 3; ++turn) {
    Request request = Chat("");
    request.prompt = ChatPrompt{.messages = messages, .tools_json = ""};
    Finished cached;
    const std::vector<int32_t> answer = Ask(*engine, request, &cached);
    request.reuse_prefix = false;
    Finished computed;
    EXPECT_EQ(Ask(*engine, std::move(request), &computed), answer);
    EXPECT_EQ(computed.usage.cached_tokens, 0);
    EXPECT_EQ(cached.usage.cached_tokens > 0, turn > 0);
    messages.push_back({.role = "assistant",
                        .content = *(*engine->text())->Decode(answer, TextCodec::Specials::kText)});
    messages.push_back({.role = "user", .content = "And what else?"});
  }
}

// ---- An answer that goes on where another one stopped -------------------------------------------

// The text of one answer and how it ended.
struct Whole {
  std::string text;
  Finished finished;
  int64_t n_tokens() const {
    return finished.usage.prompt_tokens + finished.usage.completion_tokens;
  }
};

Whole AskForText(Engine& engine, Request request) {
  Recorder recorder;
  const auto id = engine.Submit(std::move(request), recorder.Sink());
  EXPECT_TRUE(id) << id.error().message;
  if (!id) return {};
  recorder.Wait();
  EXPECT_TRUE(recorder.finished()) << recorder.failed()->message;
  return {recorder.text(), recorder.finished().value_or(Finished{})};
}

Request From(const Request& whole, std::string_view prefix) {
  Request request = whole;
  std::get<ChatPrompt>(request.prompt).answer_prefix = prefix;
  return request;
}

// Between any two code points, and at both ends.
std::vector<size_t> Cuts(std::string_view text) {
  std::vector<size_t> cuts;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) cuts.push_back(i);
  }
  return cuts;
}

struct Share {
  int equal = 0;
  int of = 0;
  std::string first_difference;
};

// Of every way to cut the answer in two, how many go on to the same text with the same tokens.
Share ContinuedEqually(Engine& engine, const Request& request) {
  const Whole whole = AskForText(engine, request);
  Share share;
  for (size_t cut : Cuts(whole.text)) {
    const std::string prefix = whole.text.substr(0, cut);
    const Whole rest = AskForText(engine, From(request, prefix));
    const bool equal = prefix + rest.text == whole.text &&
                       rest.finished.reason == whole.finished.reason &&
                       rest.n_tokens() == whole.n_tokens();
    share.equal += equal ? 1 : 0;
    ++share.of;
    if (!equal && share.first_difference.empty()) {
      share.first_difference = prefix + "|" + rest.text + "\nnot " + whole.text;
    }
  }
  return share;
}

Request ShopQuestion(std::string question) {
  return {.prompt = ChatPrompt{.messages = {{.role = "system",
                                             .content = "You are the assistant of a shop.\n"
                                                        "Catalogue:\n"
                                                        "- Amber Kettle: price $24.90, colour dark "
                                                        "green, weight 1.35 kg, stock 14\n"
                                                        "- Lunar Chair: price $89.00, material "
                                                        "polished wood, warranty 36 months\n"
                                                        "Orders:\n"
                                                        "- 48213: Cedar Lamp, shipped, arrives "
                                                        "14 May"},
                                            {.role = "user", .content = std::move(question)}},
                               .tools_json = ""},
          .sampling = {.temperature = 0}};
}

TEST(EngineTest, AnAnswerCutAnywhereGoesOnToTheSameText) {
  const auto engine = LoadDemo({.n_threads = 2, .context_tokens = 512});
  int n_cuts = 0;
  for (const char* question :
       {"What does the Amber Kettle cost?", "What do you sell?", "Where is my order 48213?",
        "Tell me about the Lunar Chair.", "How long can I return an item?",
        "Translate \"good morning\" into Spanish.", "Who wrote Faust?", "Do you ship to Peru?"}) {
    const Share share = ContinuedEqually(*engine, ShopQuestion(question));
    EXPECT_EQ(share.equal, share.of) << question << "\n" << share.first_difference;
    n_cuts += share.of;
  }
  EXPECT_GT(n_cuts, 300);
}

TEST(EngineTest, ASeededAnswerCutAnywhereGoesOnToTheSameText) {
  const auto engine = LoadDemo({.n_threads = 2, .context_tokens = 512});
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Request request = ShopQuestion("What do you sell?");
    request.sampling = {
        .temperature = 1.5F, .repetition_penalty = 1.1F, .presence_penalty = 0.5F, .seed = seed};
    const Share share = ContinuedEqually(*engine, request);
    EXPECT_EQ(share.equal, share.of) << seed << "\n" << share.first_difference;
  }
}

TEST(EngineTest, LimitsOfAContinuationAreAboutWhatFollows) {
  const auto engine = LoadDemo({.n_threads = 2, .context_tokens = 512});
  Request request = ShopQuestion("What do you sell?");
  const Whole whole = AskForText(*engine, request);
  const std::string begun = whole.text.substr(0, 11);
  const std::string rest = whole.text.substr(11);
  request.max_tokens = 2;
  const Whole two = AskForText(*engine, From(request, begun));
  EXPECT_EQ(two.finished.reason, FinishReason::kLength);
  EXPECT_EQ(two.finished.usage.completion_tokens, 2);
  EXPECT_TRUE(rest.starts_with(two.text)) << two.text;
  request.max_tokens = 0;
  request.stop = {begun.substr(1, 4), rest.substr(5, 6)};  // the first is only in what was written
  const Whole stopped = AskForText(*engine, From(request, begun));
  EXPECT_EQ(stopped.text, rest.substr(0, 5));
  EXPECT_EQ(stopped.finished.reason, FinishReason::kStop);
}

TEST(EngineTest, AForeignBeginningIsContinuedAndNeverRepeated) {
  const auto engine = LoadDemo({.n_threads = 2, .context_tokens = 512});
  // Not what this model would say, in tokens that it would not choose, in other scripts too.
  for (const char* begun : {"Wel", "XQZ 77", "Der Lun", "你好，", "<|end|>", "\xF0\x9F\x98\x80 "}) {
    const Whole rest = AskForText(*engine, From(ShopQuestion("What do you sell?"), begun));
    EXPECT_FALSE(rest.text.starts_with(begun)) << begun << "|" << rest.text;
    EXPECT_GT(rest.finished.usage.prompt_tokens, 0);
  }
  Recorder recorder;
  const auto id = engine->Submit(From(ShopQuestion("x"), "ab\xFF"), recorder.Sink());
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code, ErrorCode::kInvalidArgument);
}

TEST(EngineTest, CancelEndsWithCancelledInTheMiddle) {
  const auto engine = LoadDemo();
  Recorder recorder;
  Request request = Chat("Hello");
  request.max_tokens = 0;
  // No end of turn: it would go on to the end of the context.
  for (int32_t id : (*engine->text())->tokenizer()->end_of_generation()) {
    request.sampling.logit_bias.emplace_back(id, -100.0F);
  }
  const auto id = engine->Submit(std::move(request), recorder.Sink());
  ASSERT_TRUE(id);
  recorder.WaitForTokens(2);
  engine->Cancel(*id);
  recorder.Wait();
  ASSERT_TRUE(recorder.finished());
  EXPECT_EQ(recorder.finished()->reason, FinishReason::kCancelled);
  EXPECT_GE(recorder.finished()->usage.completion_tokens, 2);
  EXPECT_LT(recorder.finished()->usage.completion_tokens, 200);
  EXPECT_EQ(engine->activity().n_running, 0);
}

TEST(EngineTest, DestructorEndsEverySubmissionOnce) {
  std::vector<Recorder> recorders(6);
  {
    const auto engine = LoadDemo({.n_threads = 2, .context_tokens = 256, .max_sessions = 2});
    for (Recorder& recorder : recorders) {
      Request request = Chat("Hello");
      request.max_tokens = 0;
      for (int32_t id : (*engine->text())->tokenizer()->end_of_generation()) {
        request.sampling.logit_bias.emplace_back(id, -100.0F);
      }
      ASSERT_TRUE(engine->Submit(std::move(request), recorder.Sink()));
    }
    recorders[0].WaitForTokens(1);
  }
  for (const Recorder& recorder : recorders) {
    EXPECT_EQ(recorder.n_terminal(), 1);
    EXPECT_FALSE(recorder.late_event());
  }
  ASSERT_TRUE(recorders[5].failed());
  EXPECT_EQ(recorders[5].failed()->code, ErrorCode::kCancelled);
}

TEST(EngineTest, LongPromptIsATypedErrorWithBothFigures) {
  const auto engine = LoadDemo();
  Recorder recorder;
  std::string question;
  for (int i = 0; i < 400; ++i) question += " xy";
  const auto id = engine->Submit(Chat(question), recorder.Sink());
  ASSERT_FALSE(id);
  EXPECT_EQ(id.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(id.error().param, "context");
  EXPECT_THAT(id.error().message, HasSubstr("and the context 256"));
  EXPECT_EQ(recorder.n_terminal(), 0);
}

TEST(EngineTest, LogitsAndGreedyContinuationAgree) {
  const auto engine = LoadDemo();
  const std::vector<int32_t> prompt = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const auto greedy = engine->GreedyContinuation(prompt, 6);
  ASSERT_TRUE(greedy) << greedy.error().message;
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), greedy->begin(), greedy->end());
  std::vector<int32_t> best;
  ASSERT_TRUE(engine->Logits(all, [&](int32_t position, std::span<const float> row) -> Status {
    EXPECT_EQ(position, std::ssize(best));
    EXPECT_EQ(row.size(), static_cast<size_t>(engine->info().vocab_size));
    best.push_back(static_cast<int32_t>(std::ranges::max_element(row) - row.begin()));
    return {};
  }));
  EXPECT_THAT(best, SizeIs(17));
  EXPECT_EQ(std::vector<int32_t>(best.begin() + 10, best.end() - 1), *greedy);
  EXPECT_FALSE(engine->Logits({}, [](int32_t, std::span<const float>) { return Status(); }));
}

TEST(EngineTest, StepsAreTimedBetweenSessions) {
  const auto engine = LoadDemo();
  const std::vector<int32_t> before = Ask(*engine, Chat("Hello"));
  int n_steps = 0;
  const Status timed = engine->TimeSteps([&](StepTimer& timer) -> Status {
    TANDEM_ASSIGN_OR_RETURN(const double prefill_ms, timer.Prefill(200, 0));
    EXPECT_GT(prefill_ms, 0);
    TANDEM_ASSIGN_OR_RETURN(const std::vector<double> steps, timer.Decode(4, 100, 5));
    n_steps = static_cast<int>(steps.size());
    return {};
  });
  ASSERT_TRUE(timed) << timed.error().message;
  EXPECT_EQ(n_steps, 5);
  EXPECT_EQ(Ask(*engine, Chat("Hello")), before);
  EXPECT_FALSE(engine->instruction_set().empty());
  EXPECT_EQ(engine
                ->TimeSteps([](StepTimer& timer) -> Status {
                  TANDEM_ASSIGN_OR_RETURN(const double ms, timer.Prefill(1000, 0));
                  return Err(ErrorCode::kInternal, "{}", ms);
                })
                .error()
                .code,
            ErrorCode::kInvalidArgument);
}

// ---- memory

TEST(EngineTest, PlanIsWhatLoadingTakes) {
  const auto plan = PlanMemory(Demo(), SmallOptions());
  ASSERT_TRUE(plan) << plan.error().message;
  const auto engine = LoadDemo();
  EXPECT_EQ(plan->context_tokens, 256);
  EXPECT_EQ(plan->weights_bytes, engine->memory().weights_bytes);
  EXPECT_EQ(plan->scratch_bytes, engine->memory().scratch_bytes);
  EXPECT_EQ(engine->memory().kv_cache_bytes, 0U);
  Ask(*engine, Chat("Hello"));
  EXPECT_EQ(engine->memory().kv_cache_bytes, plan->kv_cache_bytes);  // kept
}

TEST(EngineTest, LimitIsExact) {
  const auto plan = PlanMemory(Demo(), SmallOptions());
  ASSERT_TRUE(plan);
  EngineOptions options = SmallOptions();
  options.memory_limit_bytes = plan->total_bytes() - 1;
  const auto refused = Engine::Load(DemoPackage(), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(plan->total_bytes())));
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(plan->total_bytes() - 1)));
  options.memory_limit_bytes = plan->total_bytes();
  const auto engine = LoadDemo(options);
  for (const char* question : {"one", "two", "three"}) {
    EXPECT_FALSE(Ask(*engine, Chat(question)).empty());
    EXPECT_LE(engine->memory().kv_cache_bytes, plan->kv_cache_bytes);
  }
}

TEST(EngineTest, DefaultContextShrinksToTheLimitAndAnAskedForOneIsRefusedWithAnOffer) {
  EngineOptions options = SmallOptions();
  options.context_tokens = 0;
  const auto full = PlanMemory(Demo(), options);
  ASSERT_TRUE(full);
  EXPECT_FALSE(full->shrunk());
  options.memory_limit_bytes = full->total_bytes() - full->kv_cache_bytes / 2;
  const auto plan = PlanMemory(Demo(), options);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->fits());
  EXPECT_TRUE(plan->shrunk());
  EXPECT_GE(plan->context_tokens, full->context_tokens / 2 - kContextStep);
  {
    const auto engine = LoadDemo(options);
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(engine->context_tokens(), plan->context_tokens);
    EXPECT_FALSE(Ask(*engine, Chat("Hello")).empty());
  }
  options.shrink_context = false;
  EXPECT_FALSE(Engine::Load(DemoPackage(), options));
  options.shrink_context = true;
  options.context_tokens = full->context_tokens;
  const auto refused = Engine::Load(DemoPackage(), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param, "memory");
  EXPECT_THAT(refused.error().message,
              HasSubstr(fmt::format("a context of {} tokens would fit", plan->context_tokens)));
}

// ---- packages

TEST(EngineTest, PackageSpeaksTheModelFilesLanguage) {
  const auto from_file = Engine::Load(Demo(), SmallOptions()).value();
  const auto from_package = LoadDemo();
  const TextCodec& a = **from_file->text();
  const TextCodec& b = **from_package->text();
  EXPECT_EQ(a.n_tokens(), b.n_tokens());
  const std::string text = "Do you ship to Singapore? <|user|> \xC3\xBC";
  for (const auto specials : {TextCodec::Specials::kText, TextCodec::Specials::kTokens}) {
    EXPECT_EQ(a.Encode(text, specials).value(), b.Encode(text, specials).value());
  }
  const ChatMessage message{.role = "user", .content = text};
  EXPECT_EQ(a.RenderChat({&message, 1}, "").value(), b.RenderChat({&message, 1}, "").value());
  EXPECT_EQ(a.warning(), b.warning());
  EXPECT_EQ(TextCodec::Open(DemoPackage()).value()->n_tokens(), a.n_tokens());
}

TEST(EngineTest, PackageAgreesWithTheFloatReferenceToItsRounding) {
  const auto from_file = Engine::Load(Demo(), SmallOptions()).value();
  const auto from_package = LoadDemo();
  const std::vector<int32_t> ids = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
  std::vector<float> reference;
  ASSERT_TRUE(from_file->Logits(ids, [&](int32_t, std::span<const float> row) -> Status {
    reference.insert(reference.end(), row.begin(), row.end());
    return {};
  }));
  size_t i = 0;
  double squares = 0;
  double reference_squares = 0;
  ASSERT_TRUE(from_package->Logits(ids, [&](int32_t, std::span<const float> row) -> Status {
    for (const float logit : row) {
      squares += (double{logit} - reference[i]) * (double{logit} - reference[i]);
      reference_squares += double{reference[i]} * reference[i];
      ++i;
    }
    return {};
  }));
  // The weights are the same; only activations are rounded to 8 bits. 0.6 % a product, five in a
  // row in each of six layers: 3.3 % if errors add up like a random walk; three times that.
  EXPECT_LT(std::sqrt(squares / reference_squares), 0.1);
  EXPECT_GT(squares, 0);
}

TEST(EngineTest, PackingSaysWhatItDid) {
  const os::TempDir dir;
  uint64_t done = 0;
  const auto summary =
      Pack(Demo(), dir.path() / "a", {.n_threads = 1, .progress = [&](uint64_t d, uint64_t total) {
                                        EXPECT_LE(d, total);
                                        done = d;
                                      }});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_GT(done, 0U);
  EXPECT_EQ(summary->file_bytes, std::filesystem::file_size(dir.path() / "a"));
  EXPECT_GT(summary->bits_per_weight, 4.4);
  for (const auto& tensor : summary->tensors) {
    const bool exact = tensor.source == "Q4_0" || tensor.source == "Q8_0";
    EXPECT_EQ(tensor.relative_error == 0, exact) << tensor.name;
  }
  ASSERT_TRUE(Pack(Demo(), dir.path() / "b", {.n_threads = 3}));
  EXPECT_EQ(os::ReadFile(dir.path() / "a", 1 << 26).value(),
            os::ReadFile(dir.path() / "b", 1 << 26).value());
  EXPECT_TRUE(VerifyPackage(dir.path() / "a", {}, {}));
  EXPECT_TRUE(IsPackage(dir.path() / "a").value());
  EXPECT_FALSE(IsPackage(Demo()).value());
}

TEST(EngineTest, WhatCannotBePackedIsATypedError) {
  const os::TempDir dir;
  const auto to = dir.path() / "p";
  const auto scheme = Pack(Demo(), to, {.scheme = "int3"});
  ASSERT_FALSE(scheme);
  EXPECT_EQ(scheme.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(scheme.error().param, "scheme");
  EXPECT_EQ(Pack(DemoPackage(), to, {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(Pack(NoModel(), to, {}).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(Pack("/nonexistent", to, {}).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(to));
}

TEST(EngineTest, ADamagedPackageIsATypedError) {
  const os::TempDir dir;
  const std::string whole = os::ReadFile(DemoPackage(), 1 << 26).value();
  const auto path = dir.path() / "p";
  ASSERT_TRUE(os::WriteFileAtomic(path, whole.substr(0, whole.size() / 2)));
  const auto cut = Engine::Load(path, SmallOptions());
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, ErrorCode::kCorrupt);
  std::string changed = whole;
  changed[changed.size() / 3] ^= 1;
  ASSERT_TRUE(os::WriteFileAtomic(path, changed));
  EXPECT_EQ(VerifyPackage(path, {}, {}).error().code, ErrorCode::kCorrupt);
}

// ---- files and options

TEST(EngineTest, FilesThatAreNoModelAreTypedErrors) {
  const auto missing = Engine::Load("/nonexistent/model.gguf", SmallOptions());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  const auto source = Engine::Load(NoModel(), SmallOptions());
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kCorrupt);
}

TEST(EngineTest, OptionsOutOfRangeNameThemselves) {
  const std::vector<std::pair<std::string, EngineOptions>> cases = {
      {"context_tokens", {.context_tokens = 100'000'000}},
      {"context_tokens", {.context_tokens = -1}},
      {"max_sessions", {.max_sessions = 0}},
      {"max_sessions", {.max_sessions = 65}},
      {"max_queued", {.max_queued = 0}},
      {"max_kept_caches", {.max_kept_caches = -1}},
      {"prefill_chunk_tokens", {.prefill_chunk_tokens = 0}},
  };
  for (const auto& [param, options] : cases) {
    const auto engine = Engine::Load(Demo(), options);
    ASSERT_FALSE(engine) << param;
    EXPECT_EQ(engine.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(engine.error().param, param);
  }
}

TEST(EngineTest, FileWithoutATokenizerScoresTokensAndSaysWhyItTakesNoText) {
  const auto demo = gguf::File::Open(Demo());
  ASSERT_TRUE(demo);
  gguf::Writer writer;
  for (const gguf::KeyValue& entry : (*demo)->metadata()) {
    if (!entry.key.starts_with("tokenizer.")) writer.Copy(entry);
  }
  for (const gguf::Tensor& tensor : (*demo)->tensors()) {
    writer.AddTensor(tensor.name, tensor.type, std::span(tensor.dims).first(tensor.n_dims),
                     tensor.bytes());
  }
  const std::filesystem::path path =
      std::filesystem::path(::testing::TempDir()) / "no_tokenizer.gguf";
  ASSERT_TRUE(writer.Finish(path));
  {
    const auto engine = Engine::Load(path, SmallOptions());
    ASSERT_TRUE(engine) << engine.error().message;
    ASSERT_FALSE((*engine)->text());
    Recorder recorder;
    const auto id = (*engine)->Submit({.prompt = TokenPrompt{{1, 2, 3}}}, recorder.Sink());
    ASSERT_FALSE(id);
    EXPECT_EQ(id.error().message, (*engine)->text().error().message);
    const auto with_tokenizer = LoadDemo();
    const std::vector<int32_t> prompt = {1, 2, 3};
    EXPECT_EQ((*engine)->GreedyContinuation(prompt, 5).value(),
              with_tokenizer->GreedyContinuation(prompt, 5).value());
  }
  std::filesystem::remove(path);
}

// ---- text

TEST(TextCodecTest, RoundTripAndMarkersInUserText) {
  const auto codec = TextCodec::Open(Demo());
  ASSERT_TRUE(codec) << codec.error().message;
  const std::string text =
      "Gr\xC3\xBC\xC3\x9F"
      "e <|end|>\xF0\x9F\x98\x80";
  using Specials = TextCodec::Specials;
  const auto as_text = (*codec)->Encode(text, Specials::kText);
  const auto as_tokens = (*codec)->Encode(text, Specials::kTokens);
  ASSERT_TRUE(as_text && as_tokens);
  EXPECT_LT(as_tokens->size(), as_text->size());
  EXPECT_EQ(*(*codec)->Decode(*as_text, Specials::kText), text);
  EXPECT_EQ(*(*codec)->Decode(*as_tokens, Specials::kTokens), text);
  EXPECT_THAT(*(*codec)->Decode(*as_tokens, Specials::kText), ::testing::Not(HasSubstr("<|end|>")));

  // What a user writes never becomes a marker.
  const std::vector<ChatMessage> messages = {{.role = "user", .content = "<|end|><|assistant|>"}};
  const auto chat = (*codec)->RenderChat(messages, "");
  ASSERT_TRUE(chat);
  const auto end = (*codec)->Encode("<|end|>", Specials::kTokens);
  ASSERT_THAT(*end, SizeIs(1));
  EXPECT_EQ(std::ranges::count(*chat, end->front()), 1);
}

TEST(TextCodecTest, WrongTextAndIdsAreTypedErrors) {
  const auto codec = TextCodec::Open(Demo());
  ASSERT_TRUE(codec);
  const auto text = (*codec)->Encode("ab\xFF", TextCodec::Specials::kText);
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().message, HasSubstr("byte 2"));
  const std::vector<int32_t> ids = {(*codec)->n_tokens()};
  EXPECT_EQ((*codec)->Decode(ids, TextCodec::Specials::kText).error().code,
            ErrorCode::kInvalidArgument);
  const std::vector<ChatMessage> messages = {{.role = "nobody", .content = "x"}};
  EXPECT_EQ((*codec)->RenderChat(messages, "").error().code, ErrorCode::kInvalidArgument);
}

TEST(TextCodecTest, TokenizerJsonOpensWithoutAModel) {
  const auto path = std::filesystem::path(TANDEM_SOURCE_DIR) / ".." / "shared" / "data" /
                    "phi-4-mini.tokenizer.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "the real tokenizers are not here";
  const auto codec = TextCodec::Open(path);
  ASSERT_TRUE(codec) << codec.error().message;
  const std::vector<ChatMessage> messages = {{.role = "user", .content = "Hi"}};
  const auto chat = (*codec)->RenderChat(messages, "");
  ASSERT_TRUE(chat);
  EXPECT_THAT(*chat, ::testing::ElementsAre(200021, 12194, 200020, 200019));
}

TEST(TextCodecTest, OtherFilesAreTypedErrors) {
  const auto source = TextCodec::Open(NoModel());
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(TextCodec::Open("/nonexistent").error().code, ErrorCode::kNotFound);
}

// ---- golden files, where they are at hand

TEST(EngineGoldenTest, GreedyContinuationAndLogitsMatchTheReference) {
  for (const std::string name : {"phi4mini-micro-f32", "mimo7b-micro-f32"}) {
    if (!std::filesystem::exists(Golden(name + ".gguf"))) GTEST_SKIP() << "no golden files here";
    const auto text = os::ReadFile(Golden(name + ".clean.json"), 1 << 20);
    ASSERT_TRUE(text);
    const boost::json::value golden = boost::json::parse(*text);
    const auto ids = [&](const char* key) {
      return boost::json::value_to<std::vector<int32_t>>(golden.at(key));
    };
    auto engine = Engine::Load(Golden(name + ".gguf"), {.context_tokens = 4096});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto continuation = (*engine)->GreedyContinuation(ids("prompt"), 32);
    ASSERT_TRUE(continuation) << continuation.error().message;
    EXPECT_EQ(*continuation, ids("greedy")) << name;

    std::vector<int32_t> all = ids("prompt");
    const std::vector<int32_t> greedy = ids("greedy");
    all.insert(all.end(), greedy.begin(), greedy.end());
    const auto reference = os::ReadFile(Golden(name + ".clean.ref.f64"), 1 << 26);
    ASSERT_TRUE(reference);
    double worst = 0;
    ASSERT_TRUE((*engine)->Logits(all, [&](int32_t position, std::span<const float> row) -> Status {
      for (size_t i = 0; i < row.size(); ++i) {
        double expected = 0;
        std::memcpy(
            &expected,
            reference->data() + sizeof(double) * (static_cast<size_t>(position) * row.size() + i),
            sizeof(double));
        worst = std::max(worst, std::abs(expected - static_cast<double>(row[i])));
      }
      return {};
    }));
    // llama.cpp's own distance to this reference is 2e-4 at most.
    EXPECT_LT(worst, 4e-4) << name;
  }
}

}  // namespace
}  // namespace tandem::engine
