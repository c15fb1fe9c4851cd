#include "engine/engine.h"

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "base/log.h"
#include "engine/executor/cpu_executor.h"
#include "engine/executor/driver.h"
#include "engine/gguf/file.h"
#include "engine/kernels/kernels.h"
#include "engine/model/huggingface.h"
#include "engine/model/model.h"
#include "engine/model/pack.h"
#include "engine/model/vocabulary.h"
#include "engine/package/file.h"
#include "engine/quant/types.h"
#include "engine/sampling/token_mask.h"
#include "engine/session/scheduler.h"
#include "engine/session/score.h"
#include "os/cpu.h"
#include "os/memory.h"

namespace tandem::engine {
namespace {

// Where the caller names no context: long enough for a chat, and LongRoPE models such as Phi-4-mini
// are most exact up to here.
constexpr int32_t kDefaultContextTokens = 4096;
// Beside decoding sessions, which wait for the whole step.
constexpr int kMixedPrefillChunkTokens = 32;
// Every session takes a row of logits, 800 KB with a vocabulary of 200,000.
constexpr int kMaxSessions = 64;
constexpr int kMaxPrefillChunkTokens = 4096;

template <typename... Args>
std::unexpected<Error> InvalidOption(std::string_view param, fmt::format_string<Args...> format,
                                     Args&&... args) {
  return std::unexpected(Error{.code = ErrorCode::kInvalidArgument,
                               .message = fmt::format(format, std::forward<Args>(args)...),
                               .param = std::string(param)});
}

Status ValidateOptions(const EngineOptions& options) {
  if (options.max_sessions < 1 || options.max_sessions > kMaxSessions) {
    return InvalidOption("max_sessions", "max_sessions is {}; it must be 1 to {}",
                         options.max_sessions, kMaxSessions);
  }
  if (options.max_queued < 1) {
    return InvalidOption("max_queued", "max_queued is {}; it must be 1 or more",
                         options.max_queued);
  }
  if (options.max_kept_caches < 0) {
    return InvalidOption("max_kept_caches", "max_kept_caches is {}; it must be 0 or more",
                         options.max_kept_caches);
  }
  if (options.prefill_chunk_tokens < 1 || options.prefill_chunk_tokens > kMaxPrefillChunkTokens) {
    return InvalidOption("prefill_chunk_tokens", "prefill_chunk_tokens is {}; it must be 1 to {}",
                         options.prefill_chunk_tokens, kMaxPrefillChunkTokens);
  }
  return {};
}

Result<int32_t> ChooseContext(const EngineOptions& options, const model::Hyperparameters& h) {
  if (options.context_tokens == 0) return std::min(h.context_length, kDefaultContextTokens);
  if (options.context_tokens < 0 || options.context_tokens > h.context_length) {
    return InvalidOption("context_tokens",
                         "a context of {} tokens was asked for; this model has 1 to {}",
                         options.context_tokens, h.context_length);
  }
  return options.context_tokens;
}

// Rows of logits that a step can have: those of sessions, or of fewer sessions and their drafts.
int MaxLogitRows(const EngineOptions& options) {
  return options.speculation == SpeculationMode::kOff
             ? options.max_sessions
             : std::max(options.max_sessions, session::kMaxVerifyRows);
}

executor::StepLimits Limits(const EngineOptions& options) {
  const int max_logit_rows = MaxLogitRows(options);
  return {.max_tokens =
              std::max(options.prefill_chunk_tokens, max_logit_rows + kMixedPrefillChunkTokens),
          .max_logit_rows = max_logit_rows};
}

bool WantsMtp(const EngineOptions& options) {
  return options.speculation == SpeculationMode::kAuto ||
         options.speculation == SpeculationMode::kMtp;
}

uint64_t LogitsBytes(const EngineOptions& options, const model::Hyperparameters& h) {
  return sizeof(float) * static_cast<uint64_t>(MaxLogitRows(options)) *
         static_cast<uint64_t>(h.vocab_size);
}

Result<uint64_t> MemoryLimit(const EngineOptions& options) {
  if (options.memory_limit_bytes > 0) return options.memory_limit_bytes;
  TANDEM_ASSIGN_OR_RETURN(const os::MemoryStatus machine, os::ReadMemoryStatus());
  return machine.limit_bytes;
}

// "Q4_K 84 %, Q6_K 16 %": shares of the weights of two or more dimensions, the largest first.
std::string DescribeQuantization(const std::map<std::string_view, int64_t>& elements) {
  int64_t total = 0;
  std::vector<std::pair<int64_t, std::string_view>> shares;
  for (const auto& [type, n] : elements) {
    shares.emplace_back(n, type);
    total += n;
  }
  std::ranges::sort(shares, std::greater<>());
  std::string text;
  for (const auto& [n, type] : shares) {
    if (!text.empty()) text += ", ";
    text += type;
    if (shares.size() > 1) {
      text += fmt::format(" {:.0f} %", 100.0 * static_cast<double>(n) / static_cast<double>(total));
    }
  }
  return text;
}

ModelInfo Describe(const gguf::File& file, const model::Hyperparameters& h) {
  ModelInfo info;
  info.name = h.name.empty() ? std::filesystem::path(file.name()).stem().string() : h.name;
  info.architecture = std::string(model::ArchitectureName(h.architecture));
  std::map<std::string_view, int64_t> elements;
  for (const gguf::Tensor& tensor : file.tensors()) {
    info.n_parameters += static_cast<uint64_t>(tensor.n_elements());
    if (tensor.n_dims >= 2) elements[quant::GetType(tensor.type).name] += tensor.n_elements();
  }
  info.quantization = DescribeQuantization(elements);
  info.context_length = h.context_length;
  info.n_layers = h.n_layers;
  info.n_mtp_layers = h.n_mtp_layers;
  info.vocab_size = h.vocab_size;
  info.file_bytes = file.n_bytes();
  return info;
}

ModelInfo Describe(const package::File& file, const model::Hyperparameters& h) {
  ModelInfo info = Describe(*file.model(), h);
  std::map<std::string_view, int64_t> elements;
  for (const package::Tensor& tensor : file.tensors()) {
    elements[tensor.type_name()] += tensor.n_rows * tensor.n_cols;
  }
  info.quantization = DescribeQuantization(elements);
  // Rows that fill up a strip are not the model's.
  info.n_parameters = file.model()->GetUint("general.parameter_count").value_or(info.n_parameters);
  info.file_bytes = file.n_bytes();
  return info;
}

Result<std::shared_ptr<const TextCodec>> LoadText(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const tokenizer::Vocabulary vocabulary, model::VocabularyFromGguf(file));
  return TextCodec::Create(vocabulary);
}

// A model file of either kind, open.
struct ModelFile {
  std::shared_ptr<const gguf::File> gguf;        // one of the two
  std::shared_ptr<const package::File> package;  //
  std::shared_ptr<const model::Model> model;

  ModelInfo info() const {
    const model::Hyperparameters& h = model->hyperparameters();
    ModelInfo info = package ? Describe(*package, h) : Describe(*gguf, h);
    info.bytes_per_token = model->bytes_per_token();
    info.products_per_token = model->products_per_token();
    info.head_products = model->head_products();
    return info;
  }
  Result<std::shared_ptr<const TextCodec>> text() const {
    return package ? TextCodec::FromPackage(package) : LoadText(*gguf);
  }
};

Result<ModelFile> OpenModelFile(const std::filesystem::path& path, bool mtp) {
  ModelFile file;
  const bool is_folder = model::IsHuggingFaceFolder(path);
  bool is_package = false;
  if (!is_folder) {
    TANDEM_ASSIGN_OR_RETURN(is_package, package::IsPackage(path));
  }
  if (is_package) {
    TANDEM_ASSIGN_OR_RETURN(file.package, package::File::Open(path));
    TANDEM_ASSIGN_OR_RETURN(file.model, model::Model::Load(file.package, {.mtp = mtp}));
    return file;
  }
  TANDEM_ASSIGN_OR_RETURN(file.gguf,
                          is_folder ? model::OpenHuggingFace(path) : gguf::File::Open(path));
  TANDEM_ASSIGN_OR_RETURN(file.model, model::Model::Load(file.gguf, {.mtp = mtp}));
  return file;
}

// Rows of logits beyond the tokenizer's vocabulary, and its padding rows, are no tokens.
std::shared_ptr<const sampling::TokenMask> MakeMask(const tokenizer::Tokenizer& tokenizer,
                                                    int32_t vocab_size) {
  const int32_t n_tokens = std::min(tokenizer.n_tokens(), vocab_size);
  std::vector<int32_t> unused;
  for (int32_t id = 0; id < n_tokens; ++id) {
    if (!tokenizer.IsUsable(id)) unused.push_back(id);
  }
  return std::make_shared<const sampling::TokenMask>(n_tokens, unused);
}

// What the process takes beside what a model asks for: code, the tokenizer's tables as far as they
// are touched, sockets, the heap's slack. `tandem run` has 20 to 40 MB of these.
constexpr uint64_t kReserveBytes = uint64_t{48} << 20;

// Bytes of one session's cache, by its tokens.
std::function<uint64_t(int32_t)> KvBytes(const model::Hyperparameters& h,
                                         const EngineOptions& options) {
  return [&h, precision = options.kv_precision](int32_t context) {
    return executor::KvBytes(h, precision, context);
  };
}

// What the model takes as it is, or, as_package, as the package that is made of it.
Result<MemoryPlan> MakePlan(const model::Model& model, const EngineOptions& options,
                            bool as_package) {
  const model::Hyperparameters& h = model.hyperparameters();
  const executor::StepLimits limits = Limits(options);
  const int n_cores = os::UsableCpuCount();
  const int n_threads = options.n_threads > 0 ? std::min(options.n_threads, n_cores) : n_cores;
  MemoryPlan plan;
  TANDEM_ASSIGN_OR_RETURN(plan.full_context_tokens, ChooseContext(options, h));
  TANDEM_ASSIGN_OR_RETURN(plan.limit_bytes, MemoryLimit(options));
  plan.weights_bytes = as_package && !model.packed()
                           ? model::PackedWeightsBytes(model, model::PackScheme::kAuto)
                           : model.weights_bytes();
  plan.scratch_bytes =
      model::ScratchBytes(
          h, model.kernels(), as_package || model.packed(),
          {.max_tokens = limits.max_tokens, .max_logit_rows = limits.max_logit_rows}, n_threads) +
      LogitsBytes(options, h);
  plan.reserve_bytes = kReserveBytes;
  if (options.context_tokens == 0 && options.shrink_context) {
    return FitContext(plan, KvBytes(h, options));
  }
  plan.context_tokens = plan.full_context_tokens;
  plan.kv_cache_bytes = KvBytes(h, options)(plan.context_tokens);
  return plan;
}

}  // namespace

class Engine::Impl {
 public:
  static Result<std::unique_ptr<Impl>> Load(const std::filesystem::path& path,
                                            const EngineOptions& options);
  const ModelInfo& info() const { return info_; }
  int32_t context_tokens() const { return executor_->context_tokens(); }
  const Result<std::shared_ptr<const TextCodec>>& text() const { return text_; }
  std::string_view instruction_set() const { return instruction_set_; }
  session::Scheduler& scheduler() { return *scheduler_; }
  Status TimeSteps(std::move_only_function<Status(StepTimer&)> job);

  // A submission's prompt_ids, n_answer_ids and forced_text.
  Result<session::Submission> EncodePrompt(Request& request) const;

 private:
  Impl() = default;

  std::shared_ptr<const void> kept_;  // first, so that it goes last
  RealClock real_clock_;
  const Clock* clock_ = &real_clock_;
  KvPrecision kv_precision_ = KvPrecision::kInt8;
  ModelInfo info_;
  std::string_view instruction_set_;
  Result<std::shared_ptr<const TextCodec>> text_;
  std::unique_ptr<executor::Executor> executor_;
  std::optional<session::Scheduler> scheduler_;
  std::unique_ptr<HugePageMover> huge_pages_;  // null: the weights stay where they are
  std::jthread thread_;  // runs scheduler_; last, so that it stops and joins first
};

// What runs the model: this machine's cores, or an accelerator.
Result<std::unique_ptr<executor::Executor>> MakeExecutor(const ModelFile& file,
                                                         const std::filesystem::path& path,
                                                         const EngineOptions& options,
                                                         int32_t context) {
  if (options.driver.empty()) {
    return executor::CpuExecutor::Create(file.model, {.n_threads = options.n_threads,
                                                      .threads = options.threads,
                                                      .context_tokens = context,
                                                      .limits = Limits(options)});
  }
  if (!file.model->packed()) {
    return Err(ErrorCode::kUnsupported,
               "{}: an accelerator runs packages only; 'tandem pack' "
               "makes one",
               path.filename().string());
  }
  TANDEM_ASSIGN_OR_RETURN(auto driver, executor::Driver::Load(options.driver));
  TANDEM_ASSIGN_OR_RETURN(
      auto made,
      executor::CreateDriverExecutor(
          std::move(driver), {.package = path,
                              .context_tokens = context,
                              .limits = Limits(options),
                              // Those that run, those that are kept, and one for scores.
                              .max_slots = options.max_sessions + options.max_kept_caches + 1,
                              .memory_limit_bytes = options.memory_limit_bytes}));
  const model::Hyperparameters& h = file.model->hyperparameters();
  const executor::StepLimits wanted = Limits(options);
  const executor::StepLimits limits = made->limits();
  if (made->vocab_size() != h.vocab_size || made->context_tokens() != context ||
      limits.max_tokens != wanted.max_tokens || limits.max_logit_rows != wanted.max_logit_rows) {
    return Err(ErrorCode::kUnavailable,
               "driver {} offers a context of {} tokens, {} a step, {} rows of {} logits; {}, {}, "
               "{} of {} are needed",
               options.driver.filename().string(), made->context_tokens(), limits.max_tokens,
               limits.max_logit_rows, made->vocab_size(), context, wanted.max_tokens,
               wanted.max_logit_rows, h.vocab_size);
  }
  return made;
}

Result<std::unique_ptr<Engine::Impl>> Engine::Impl::Load(const std::filesystem::path& path,
                                                         const EngineOptions& options) {
  TANDEM_RETURN_IF_ERROR(ValidateOptions(options));
  TANDEM_ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(path, WantsMtp(options)));
  const model::Hyperparameters& h = file.model->hyperparameters();
  TANDEM_ASSIGN_OR_RETURN(const MemoryPlan plan,
                          MakePlan(*file.model, options, /*as_package=*/false));
  const std::string name = path.filename().string();
  TANDEM_RETURN_IF_ERROR(CheckPlan(plan, name, KvBytes(h, options)));
  const int32_t context = plan.context_tokens;
  if (plan.shrunk()) {
    log::Warning(
        "{}: {} bytes of memory hold a context of {} tokens, not of {}: raise the memory "
        "limit for longer conversations",
        name, plan.limit_bytes, context, plan.full_context_tokens);
  }

  std::unique_ptr<Impl> impl(new Impl);
  impl->kept_ = options.kept;
  if (options.clock != nullptr) impl->clock_ = options.clock;
  impl->kv_precision_ = options.kv_precision;
  impl->info_ = file.info();
  impl->instruction_set_ = kernels::IsaName(file.model->kernels().isa);
  TANDEM_ASSIGN_OR_RETURN(impl->executor_, MakeExecutor(file, path, options, context));
  if (!options.driver.empty()) {
    // A driver may keep the weights in another form.
    MemoryPlan taken = plan;
    taken.weights_bytes = impl->executor_->weights_bytes();
    taken.scratch_bytes = impl->executor_->scratch_bytes() + LogitsBytes(options, h);
    TANDEM_RETURN_IF_ERROR(CheckPlan(taken, name, KvBytes(h, options)));
  }
  impl->text_ = file.text();
  if (!impl->text_) {
    log::Warning("{}: no text in or out: {}", path.string(), impl->text_.error().message);
  } else if (!(*impl->text_)->warning().empty()) {
    log::Warning("{}: {}", path.string(), (*impl->text_)->warning());
  }

  // Without a tokenizer nothing can be submitted, and the scheduler only runs exclusive jobs.
  session::SessionModel session_model{
      .tokenizer = nullptr, .mask = nullptr, .vocab_size = h.vocab_size, .context_tokens = context};
  if (impl->text_) {
    session_model.tokenizer = (*impl->text_)->tokenizer();
    session_model.mask = MakeMask(*session_model.tokenizer, h.vocab_size);
  }
  impl->scheduler_.emplace(
      impl->executor_.get(), std::move(session_model),
      session::SchedulerOptions{.max_sessions = options.max_sessions,
                                .max_queued = options.max_queued,
                                .max_kept_slots = options.max_kept_caches,
                                .prefill_chunk_tokens = options.prefill_chunk_tokens,
                                .mixed_prefill_chunk_tokens = kMixedPrefillChunkTokens,
                                .kv_precision = options.kv_precision,
                                .memory_limit_bytes = plan.limit_bytes - plan.reserve_bytes,
                                .speculation = options.speculation},
      impl->clock_, [] { return os::ReadMemoryStatus(); });

  if (options.huge_pages != HugePages::kOff && options.driver.empty() && file.package) {
    impl->huge_pages_ = std::make_unique<HugePageMover>(file.package, options.huge_pages,
                                                        [] { return os::ReadMemoryStatus(); });
  }
  impl->thread_ = std::jthread(
      [scheduler = &*impl->scheduler_](const std::stop_token& stop) { scheduler->Run(stop); });
  return impl;
}

Result<session::Submission> Engine::Impl::EncodePrompt(Request& request) const {
  if (!text_) return std::unexpected(text_.error());
  const TextCodec& codec = **text_;
  session::Submission submission;
  if (const auto* chat = std::get_if<ChatPrompt>(&request.prompt)) {
    TANDEM_ASSIGN_OR_RETURN(submission.prompt_ids,
                            codec.RenderChat(chat->messages, chat->tools_json));
    if (chat->answer_prefix.empty()) return submission;
    TANDEM_ASSIGN_OR_RETURN(tokenizer::Continuation begun,
                            codec.PlanContinuation(chat->answer_prefix));
    submission.n_answer_ids = begun.token_ids.size();
    submission.prompt_ids.insert(submission.prompt_ids.end(), begun.token_ids.begin(),
                                 begun.token_ids.end());
    submission.forced_text = std::move(begun.rest);
  } else if (const auto* text = std::get_if<TextPrompt>(&request.prompt)) {
    TANDEM_ASSIGN_OR_RETURN(submission.prompt_ids, codec.EncodePrompt(text->text));
  } else {
    submission.prompt_ids = std::move(std::get<TokenPrompt>(request.prompt).token_ids);
  }
  return submission;
}

Status Engine::Impl::TimeSteps(std::move_only_function<Status(StepTimer&)> job) {
  return scheduler_->RunExclusive(kv_precision_,
                                  [&](executor::Executor& executor, executor::Slot& slot) {
                                    StepTimer timer(&executor, &slot, kv_precision_, clock_);
                                    return job(timer);
                                  });
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Load(const std::filesystem::path& path,
                                             const EngineOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Impl> impl, Impl::Load(path, options));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

const ModelInfo& Engine::info() const { return impl_->info(); }
int32_t Engine::context_tokens() const { return impl_->context_tokens(); }
const Result<std::shared_ptr<const TextCodec>>& Engine::text() const { return impl_->text(); }
std::string_view Engine::instruction_set() const { return impl_->instruction_set(); }
MemoryFigures Engine::memory() const { return impl_->scheduler().memory(); }
Activity Engine::activity() const { return impl_->scheduler().activity(); }
SpeculationFigures Engine::speculation() const { return impl_->scheduler().speculation(); }
void Engine::Cancel(SubmissionId id) { impl_->scheduler().Cancel(id); }

Result<SubmissionId> Engine::Submit(Request request, EventSink sink) {
  TANDEM_ASSIGN_OR_RETURN(session::Submission submission, impl_->EncodePrompt(request));
  submission.sampling = std::move(request.sampling);
  submission.max_tokens = request.max_tokens;
  submission.stop = std::move(request.stop);
  submission.top_logprobs = request.top_logprobs;
  submission.detect_degeneration = request.detect_degeneration;
  submission.reuse_prefix = request.reuse_prefix;
  return impl_->scheduler().Submit(std::move(submission), std::move(sink));
}

Status Engine::Logits(std::span<const int32_t> token_ids,
                      std::move_only_function<Status(int32_t, std::span<const float>)> row) {
  return impl_->scheduler().RunExclusive(
      KvPrecision::kF32, [&](executor::Executor& executor, executor::Slot& slot) {
        return session::ScoreTokens(executor, slot, token_ids, row);
      });
}

Result<std::vector<int32_t>> Engine::GreedyContinuation(std::span<const int32_t> token_ids,
                                                        int32_t n) {
  std::vector<int32_t> answer;
  TANDEM_RETURN_IF_ERROR(impl_->scheduler().RunExclusive(
      KvPrecision::kF32, [&](executor::Executor& executor, executor::Slot& slot) -> Status {
        TANDEM_ASSIGN_OR_RETURN(answer, session::ContinueGreedily(executor, slot, token_ids, n));
        return {};
      }));
  return answer;
}

Status Engine::TimeSteps(std::move_only_function<Status(StepTimer&)> job) {
  return impl_->TimeSteps(std::move(job));
}

std::string_view KvPrecisionName(KvPrecision precision) {
  switch (precision) {
    case KvPrecision::kInt8:
      return "int8";
    case KvPrecision::kF16:
      return "f16";
    case KvPrecision::kF32:
      break;
  }
  return "f32";
}

Result<KvPrecision> ParseKvPrecision(std::string_view name) {
  for (const KvPrecision precision : {KvPrecision::kInt8, KvPrecision::kF16, KvPrecision::kF32}) {
    if (name == KvPrecisionName(precision)) return precision;
  }
  return Err(ErrorCode::kInvalidArgument,
             "'{}' is no type of keys and values; choose int8, f16 or f32", name);
}

Result<std::string> ActiveInstructionSet() {
  TANDEM_ASSIGN_OR_RETURN(const kernels::KernelSet* set, kernels::Active());
  return std::string(kernels::IsaName(set->isa));
}

Result<std::shared_ptr<ComputeThreads>> StartComputeThreads(int n_threads) {
  return executor::CpuExecutor::StartThreads(n_threads);
}

Result<MemoryPlan> PlanMemory(const std::filesystem::path& path, const EngineOptions& options) {
  TANDEM_RETURN_IF_ERROR(ValidateOptions(options));
  TANDEM_ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(path, WantsMtp(options)));
  return MakePlan(*file.model, options, /*as_package=*/true);
}

Result<ModelInfo> ReadModelInfo(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(path, /*mtp=*/true));
  return file.info();
}

}  // namespace tandem::engine
