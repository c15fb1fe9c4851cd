// The door of the engine: a model file in, tokens and text out. Charter of engine/ (this file and
// engine.cc): one loaded model that app/ and tools can use without knowing any room behind it; it
// may include every room of the engine, and nothing outside includes those. Deliberately absent:
// HTTP, routing, where model files come from.
//
// Lifetimes. Engine::Load() maps the file and starts one scheduler thread and the compute threads.
// Everything that Submit() accepts ends with exactly one Finished or Failed event, also when the
// engine is destroyed: the destructor stops at the next step, fails what is still open with
// kCancelled, and joins. A sink is destroyed right after its last event, or by Submit() where that
// returns an error.
//
// Threads. Every member function may be called from any thread. Sinks are called on the scheduler
// thread, one at a time, possibly before Submit() has returned. A sink must not block, since all
// sessions wait for it; it may call Submit() and Cancel(), but must not destroy the engine nor call
// Logits() or GreedyContinuation().
//
// Cancellation. Cancel() takes effect at the next step, in every phase: waiting, prefill, decode.
// The submission then ends with Finished{kCancelled} and its usage so far. Events that were under
// way may still arrive before it.
//
// Determinism. The same request with the same seed gives the same tokens, whatever else runs at the
// same time, however many threads compute, and whether or not a cached prefix was used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/executor.h"
#include "engine/huge_page_mover.h"
#include "engine/memory_plan.h"
#include "engine/sampling/sampling_options.h"
#include "engine/session/memory_budget.h"
#include "engine/session/speculation.h"
#include "engine/session/step_timer.h"
#include "engine/session/submission.h"
#include "engine/text_codec.h"

namespace tandem::ops {
class ThreadPool;
}  // namespace tandem::ops

namespace tandem::engine {

using ComputeThreads = ops::ThreadPool;  // nothing outside looks into it
using executor::KvPrecision;             // kInt8, kF16, kF32
using sampling::SamplingOptions;         // temperature, top_p, penalties, seed, ...
using session::Activity;                 // n_running, n_queued
using session::Drafter;                  // kMtp, kNgram
using session::DrafterName;              // "mtp", "ngram"
using session::MemoryFigures;            // weights, KV caches, scratch, limit
using session::ParseSpeculationMode;
using session::SpeculationFigures;  // drafted, accepted, gain
using session::SpeculationMode;     // kAuto, kOff, kMtp, kNgram
using session::SpeculationModeName;
using session::StepTimer;  // what prefill and decode cost
// session/submission.h says what the events of an answer carry.
using session::Alternative;
using session::Event;
using session::EventSink;
using session::Failed;
using session::Finished;
using session::FinishReason;
using session::SubmissionId;
using session::TextDelta;
using session::Timings;
using session::TokenLogprobs;
using session::Usage;

struct ModelInfo {
  std::string name;          // general.name, or the file's name where that is missing
  std::string architecture;  // "phi3", "qwen2"
  uint64_t n_parameters = 0;
  std::string quantization;    // types by share of the weights, for example "Q4_K 84 %, Q6_K 16 %"
  int32_t context_length = 0;  // that the model was made for
  int32_t n_layers = 0;
  int32_t n_mtp_layers = 0;  // of multi-token prediction, behind them
  int32_t vocab_size = 0;    // rows of logits; at least the tokenizer's number of tokens
  uint64_t file_bytes = 0;
  // What decoding one token reads and multiplies: all weights but the rows of an embedding table
  // that are not looked up. The head's share of the products is only due where logits are wanted.
  uint64_t bytes_per_token = 0;
  uint64_t products_per_token = 0;
  uint64_t head_products = 0;

  double bits_per_weight() const {
    return products_per_token == 0
               ? 0
               : 8 * static_cast<double>(bytes_per_token) / static_cast<double>(products_per_token);
  }
};

struct EngineOptions {
  int n_threads = 0;  // that compute; 0, and more than there are: every core that it may use
  // To share with other engines, of StartComputeThreads(); null: its own.
  std::shared_ptr<ComputeThreads> threads = nullptr;
  int context_tokens = 0;  // of each session; 0: the model's context, at most 4,096
  // Where no context was asked for: whether it may be shorter than that so as to stay within the
  // memory limit (and is then warned of). A context that was asked for is never changed.
  bool shrink_context = true;
  // Weights, KV caches, scratch and what the process itself takes stay below this. 0: what the
  // machine or cgroup allows.
  uint64_t memory_limit_bytes = 0;
  int max_sessions = 8;            // that generate at the same time, at most 64
  int max_queued = 64;             // that wait; one more is refused with kResourceExhausted
  int max_kept_caches = 4;         // of finished sessions, for the next turn of the same chat
  int prefill_chunk_tokens = 256;  // that one step takes in; fewer beside decoding sessions
  KvPrecision kv_precision = KvPrecision::kInt8;  // of keys and values
  // Guessing ahead: the same answers in fewer steps. A layer of multi-token prediction is loaded
  // with kAuto and kMtp.
  SpeculationMode speculation = SpeculationMode::kAuto;
  // Whether a package's weights move to huge pages, in the background, once it is loaded.
  HugePages huge_pages = HugePages::kOff;
  const Clock* clock = nullptr;  // null: the machine's; must outlive the engine
  // An accelerator's driver that runs the model in place of this machine's cores; packages only.
  // Its code runs in this process: engine/accelerator.h says whether it can be trusted.
  std::filesystem::path driver;
  // Let go when the engine is gone.
  std::shared_ptr<const void> kept;
};

// Threads that compute for several engines: the loops of their steps take turns, where threads of
// their own would fight for the cores. n_threads as in EngineOptions.
// Errors: kInvalidArgument for a negative count, kResourceExhausted.
Result<std::shared_ptr<ComputeThreads>> StartComputeThreads(int n_threads);

struct ChatPrompt {
  std::vector<ChatMessage> messages;
  std::string tools_json;  // OpenAI's `tools` array as JSON text; empty: none
  // The answer's beginning, written before; what is emitted comes right behind its last byte, also
  // in the middle of a word. Where this model wrote it, with the same options and seed, the two
  // together are what it would have written in one go. Counts as prompt.
  std::string answer_prefix = {};
};
// Text as it is: no template; markers such as <|user|> in it become special tokens.
struct TextPrompt {
  std::string text;
};
struct TokenPrompt {
  std::vector<int32_t> token_ids;
};

struct Request {
  std::variant<ChatPrompt, TextPrompt, TokenPrompt> prompt;
  SamplingOptions sampling = {};
  int32_t max_tokens = 0;                    // of the answer; 0: until the context is full
  std::vector<std::string> stop = {};        // the answer ends before the first of these
  std::optional<int32_t> top_logprobs = {};  // empty: none; 0: of the chosen tokens only
  bool detect_degeneration = false;          // end with kDegenerate when the answer loops
  bool reuse_prefix = true;                  // use, and leave behind, cached keys and values
};

// "int8", "f16", "f32".
std::string_view KvPrecisionName(KvPrecision precision);
// Errors: kInvalidArgument with the names that there are.
Result<KvPrecision> ParseKvPrecision(std::string_view name);

// A loaded model.
class Engine {
 public:
  // Errors: kNotFound, kIo, kCorrupt, kUnsupported from the file; kInvalidArgument for an option,
  // such as a context longer than the model's; kResourceExhausted (param "memory"), naming the
  // bytes wanted and available, where weights, scratch and one session's cache do not fit;
  // kUnavailable where the driver cannot create a context.
  // A package (engine/packing.h) is multiplied in integers; a GGUF file in float, several times
  // slower: for comparison with references.
  // Cost: maps the weights, reads none of them; of a GGUF file builds the tokenizer's tables.
  static Result<std::unique_ptr<Engine>> Load(const std::filesystem::path& path,
                                              const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelInfo& info() const;
  int32_t context_tokens() const;  // of each session
  // The instruction set whose kernels compute, such as "avx2".
  std::string_view instruction_set() const;
  // The tokenizer and chat template, or why the file's could not be used. Without them token ids
  // can still be scored, but Submit() returns that error.
  const Result<std::shared_ptr<const TextCodec>>& text() const;
  MemoryFigures memory() const;
  Activity activity() const;
  SpeculationFigures speculation() const;

  // Queues a request. Renders and encodes the prompt on the calling thread.
  // Errors (the sink is then never called): kInvalidArgument with Error::param for a value out of
  // range, an empty prompt, an answer_prefix that is not UTF-8, or (param "context") one that
  // leaves no room in the context, naming the prompt's tokens and the context; kResourceExhausted
  // when max_queued wait; kCancelled while the engine is being destroyed. Later (Failed):
  // kResourceExhausted (param "memory") where memory ran out meanwhile, kInternal, kCancelled.
  Result<SubmissionId> Submit(Request request, EventSink sink);
  // Unknown and finished ids are ignored.
  void Cancel(SubmissionId id);

  // The model's logits after each of the tokens, one call of `row` per position in order.
  //   row(position, logits [vocab_size]); an error of it ends the run and is returned
  // Waits, and sessions wait meanwhile: for tools and exams. Keys and values are kept as f32.
  // Errors: kInvalidArgument for no tokens, an id outside the vocabulary, or more than the context.
  Status Logits(std::span<const int32_t> token_ids,
                std::move_only_function<Status(int32_t, std::span<const float>)> row);
  // The n most probable next tokens one after another, over all vocab_size rows, ending tokens
  // included; ties by lower id. Waits, and has the errors, as Logits().
  Result<std::vector<int32_t>> GreedyContinuation(std::span<const int32_t> token_ids, int32_t n);

  // Hands the steps of the model to `job`, on the scheduler thread. Waits, and sessions wait
  // meanwhile: for measuring.
  // Errors: the job's; kResourceExhausted where no cache fits; kCancelled while the engine is being
  // destroyed.
  Status TimeSteps(std::move_only_function<Status(StepTimer&)> job);

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The instruction set that this process computes with: "avx2", "neon_dotprod", ... The first call
// proves it against the scalar reference. Errors: kInvalidArgument, kUnsupported for TANDEM_ISA;
// kInternal where the kernels compute something else than the reference.
Result<std::string> ActiveInstructionSet();

// What Load() with the same options would need, also where it would refuse for that (fits() tells);
// of a GGUF file, what the package that Pack() makes of it needs. Reads the file's header and norms
// only.
Result<MemoryPlan> PlanMemory(const std::filesystem::path& path, const EngineOptions& options);
// Likewise without loading: what the file is.
Result<ModelInfo> ReadModelInfo(const std::filesystem::path& path);

}  // namespace tandem::engine
