#include "gateway/dispatch/dispatcher.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "gateway/classify/classifier.h"
#include "gateway/dispatch/checked_provider.h"
#include "gateway/dispatch/confident_provider.h"
#include "gateway/dispatch/prompt_size.h"
#include "gateway/dispatch/run.h"
#include "gateway/privacy/egress_gate.h"
#include "gateway/router/decide.h"

namespace tandem::gateway::dispatch {
namespace {

constexpr int32_t kExpectedAnswerTokens = 256;  // where the request sets no limit
constexpr size_t kKeptStrategies = 64;
// Names of the default strategy that clients may use instead of a model.
constexpr std::string_view kDefaultNames[] = {"tandem", "auto"};

std::string RunKey(std::string_view strategy, std::string_view target) {
  return fmt::format("{}/{}", strategy, target);
}

bool Names(const Strategy& strategy, std::string_view model) {
  return std::ranges::any_of(strategy.targets, [&](const Target& target) {
    return target.model == model ||
           std::ranges::find(target.aliases, model) != target.aliases.end();
  });
}

Status CheckTarget(const Strategy& strategy, std::string_view id) {
  if (std::ranges::find(strategy.targets, id, &Target::id) != strategy.targets.end()) return {};
  return Err(ErrorCode::kInvalidArgument, "the strategy '{}' has no target '{}'", strategy.name,
             id);
}

}  // namespace

Status Dispatcher::Check(const RoutingTable& table) {
  if (table.strategies.empty()) {
    return Err(ErrorCode::kInvalidArgument, "there is no strategy; define at least one");
  }
  std::set<std::string> names;
  for (const RunnableStrategy& runnable : table.strategies) {
    const Strategy& strategy = runnable.strategy;
    TANDEM_RETURN_IF_ERROR(Validate(strategy));
    if (!names.insert(strategy.name).second) {
      return Err(ErrorCode::kInvalidArgument, "there are two strategies named '{}'", strategy.name);
    }
    for (const auto& [id, run] : runnable.runs) {
      TANDEM_RETURN_IF_ERROR(CheckTarget(strategy, id));
    }
  }
  if (table.canary) {
    TANDEM_RETURN_IF_ERROR(Validate(table.canary->options));
    const std::string& name = table.canary->strategy;
    const auto named = std::ranges::find_if(table.strategies, [&](const RunnableStrategy& other) {
      return other.strategy.name == name;
    });
    if (!name.empty() && named == table.strategies.end()) {
      return Err(ErrorCode::kInvalidArgument,
                 "the canary is of the strategy '{}', which is not there", name);
    }
    const Strategy& strategy = name.empty() ? table.strategies.front().strategy : named->strategy;
    for (const std::string& id : {table.canary->target, table.canary->baseline}) {
      TANDEM_RETURN_IF_ERROR(CheckTarget(strategy, id));
    }
  }
  return {};
}

namespace {

relay::Continuation ContinuationOf(const TargetRun& run, bool takes_prefix) {
  switch (run.continuation) {
    case TargetRun::Continuation::kNone:
      return relay::Continuation::kNone;
    case TargetRun::Continuation::kPrompted:
      return relay::Continuation::kPrompted;
    case TargetRun::Continuation::kAuto:
      break;
  }
  return takes_prefix ? relay::Continuation::kNativePrefix : relay::Continuation::kPrompted;
}

// When the next candidate has to be started too, so that its first token can still be in time.
std::optional<std::chrono::milliseconds> HedgeFor(std::optional<double> max_ttft_ms,
                                                  std::optional<double> next_ttft_ms) {
  if (!max_ttft_ms) return std::nullopt;
  constexpr double kUnknownShare = 0.5;  // of the limit, for a provider that never answered yet
  const double needed = next_ttft_ms.value_or(kUnknownShare * *max_ttft_ms);
  return std::chrono::milliseconds(static_cast<int64_t>(std::max(0.0, *max_ttft_ms - needed)));
}

ConfidenceNeed ConfidenceOf(const Cascade& cascade, TaskClass task) {
  return {.tokens = cascade.tokens,
          .time = cascade.time,
          .min_probability = cascade.min_probability,
          .calibrator = cascade.calibrator,
          .task = task,
          .min_mean_logprob =
              cascade.by_task[static_cast<size_t>(task)].value_or(cascade.min_mean_logprob)};
}

// A local answer is looked at where another candidate could give a better one.
bool IsHeld(const Target& target, bool last) { return target.tier != Tier::kCloud && !last; }

std::optional<CascadeNote> NoteOf(const Cascade& cascade, const Strategy& strategy,
                                  const DecisionRecord& record) {
  CascadeNote note{.tokens = cascade.tokens,
                   .hold_ms = static_cast<double>(cascade.time.count()),
                   .min_probability = cascade.min_probability};
  if (!note.min_probability) {
    note.min_mean_logprob = ConfidenceOf(cascade, record.facts.task).min_mean_logprob;
  }
  const std::vector<Candidate>& candidates = record.decision.candidates;
  for (const Candidate& candidate : candidates) {
    const auto target = std::ranges::find(strategy.targets, candidate.target, &Target::id);
    if (target != strategy.targets.end() && IsHeld(*target, &candidate == &candidates.back())) {
      note.targets.push_back(candidate.target);
    }
  }
  if (note.targets.empty()) return std::nullopt;
  return note;
}

// The texts that say what is asked for: the last message of the user, and the one before it.
struct AskedFor {
  std::string_view text;
  std::string_view before;
  bool has_code = false;
  bool answered = false;  // an assistant's turn is among them
};
AskedFor FindAskedFor(const std::vector<Message>& messages) {
  AskedFor asked;
  for (auto message = messages.rbegin(); message != messages.rend(); ++message) {
    const bool user = message->role == "user";
    asked.answered |= message->role == "assistant";
    if (user && asked.text.empty()) {
      asked.text = message->content;
    } else {
      if (user && asked.before.empty()) asked.before = message->content;
      asked.has_code |= message->content.find("```") != std::string::npos;
    }
  }
  return asked;
}

}  // namespace

Dispatcher::Dispatcher(Services services)
    : services_(std::move(services)),
      canary_(services_.clock, services_.audit, services_.canary_store, services_.node) {}

Dispatcher::~Dispatcher() = default;

Result<std::unique_ptr<Dispatcher>> Dispatcher::Create(Services services, RoutingTable table) {
  auto dispatcher = std::unique_ptr<Dispatcher>(new Dispatcher(std::move(services)));
  // A roll-out that ran before the restart goes on, before the configuration could begin another.
  TANDEM_RETURN_IF_ERROR(dispatcher->canary_.ReadAll());
  TANDEM_RETURN_IF_ERROR(dispatcher->Apply(std::move(table)));
  return dispatcher;
}

std::shared_ptr<TargetHealth> Dispatcher::HealthOf(const std::string& strategy,
                                                   const Target& target,
                                                   const BreakerOptions& options) {
  KnownHealth& known = health_[RunKey(strategy, target.id)];
  if (known.health == nullptr || known.model != target.model || !(known.options == options)) {
    known = {target.model, options, std::make_shared<TargetHealth>(options)};
  } else {
    known.health->ForgetCredential();
  }
  return known.health;
}

Status Dispatcher::Apply(RoutingTable table) {
  TANDEM_RETURN_IF_ERROR(Check(table));
  auto next = std::make_shared<Live>();
  next->redactor = std::make_shared<const privacy::Redactor>(table.redacted_names);
  const std::optional<CanaryPlan> canary = table.canary;
  std::vector<std::pair<std::string, std::string>> texts;  // strategies by digest
  {
    std::lock_guard lock(mutex_);
    for (RunnableStrategy& runnable : table.strategies) {
      Strategy& strategy = runnable.strategy;
      RoundFigures(&strategy);
      auto live = std::make_shared<LiveStrategy>();
      const std::string text = StrategyJson(strategy);
      live->digest = crypto::Sha256Hex(text);
      for (const Target& target : strategy.targets) {
        live->health.push_back(HealthOf(strategy.name, target, table.breaker));
        const auto run = runnable.runs.find(target.id);
        live->runs.push_back(run == runnable.runs.end() ? TargetRun{} : run->second);
      }
      live->strategy = strategy;
      live->deadline = runnable.deadline;
      live->hand_off = runnable.hand_off;
      live->shadow_share = runnable.shadow_share;
      texts.emplace_back(live->digest, text);
      if (strategy_texts_.emplace(live->digest, text).second) {
        strategy_order_.push_back(live->digest);
        if (strategy_order_.size() > kKeptStrategies) {
          strategy_texts_.erase(strategy_order_.front());
          strategy_order_.erase(strategy_order_.begin());
        }
      }
      next->strategies.push_back(std::move(live));
    }
    const bool same = live_ != nullptr && live_->table.retry_budget == table.retry_budget;
    next->retry_budget =
        same ? live_->retry_budget
             : std::make_shared<relay::RetryBudget>(services_.clock, table.retry_budget);
    next->table = std::move(table);
    live_ = std::move(next);
  }
  if (services_.strategies != nullptr) {
    for (const auto& [digest, text] : texts) {
      if (const Status kept = services_.strategies->Keep(digest, text); !kept) {
        log::Error("strategy {}: {}", digest, kept.error().message);
      }
    }
  }
  const auto running = canary_.Read();
  if (canary && !(running && running->plan == *canary)) {
    // The table is in force whatever becomes of it: another one may still be running.
    if (const Status started = canary_.Start(*canary, "configuration"); !started) {
      log::Error("the configuration's canary '{}' was not started: {}", canary->options.id,
                 started.error().message);
    }
  }
  return {};
}

std::shared_ptr<const Dispatcher::Live> Dispatcher::live() const {
  std::lock_guard lock(mutex_);
  return live_;
}

std::string Dispatcher::digest() const { return live()->table.digest; }

Result<std::optional<std::string>> Dispatcher::FindStrategyJson(std::string_view digest) const {
  {
    std::lock_guard lock(mutex_);
    const auto found = strategy_texts_.find(digest);
    if (found != strategy_texts_.end()) return found->second;
  }
  if (services_.strategies == nullptr) return std::nullopt;
  return services_.strategies->Find(digest);
}

// By name of a strategy, by a model that one has, else a strategy of the one model alone.
std::expected<std::shared_ptr<const Dispatcher::LiveStrategy>, Failure> Dispatcher::ChooseStrategy(
    const Live& live, std::string_view model) {
  if (std::ranges::find(kDefaultNames, model) != std::end(kDefaultNames)) {
    return live.strategies.front();
  }
  for (const auto& strategy : live.strategies) {
    if (strategy->strategy.name == model) return strategy;
  }
  for (const auto& strategy : live.strategies) {
    if (Names(strategy->strategy, model)) return strategy;
  }
  auto target = services_.targets->Resolve(model);
  if (!target) return std::unexpected(std::move(target).error());
  auto alone = std::make_shared<LiveStrategy>();
  alone->strategy.name = "model";
  alone->strategy.fall_back_from_explicit_model = false;
  if (target->id != model) target->aliases.emplace_back(model);
  {
    std::lock_guard lock(mutex_);
    constexpr size_t kMaxKnown = 1024;  // clients choose the names of models
    if (health_.size() >= kMaxKnown) {
      std::erase_if(health_, [&](const auto& known) {
        return known.first.starts_with(RunKey(alone->strategy.name, ""));
      });
    }
    alone->health.push_back(HealthOf(alone->strategy.name, *target, live.table.breaker));
  }
  alone->runs.emplace_back();
  alone->strategy.targets.push_back(*std::move(target));
  return alone;
}

std::expected<Dispatcher::Prepared, Failure> Dispatcher::Prepare(const Incoming& incoming) {
  Prepared prepared;
  prepared.live = live();
  auto strategy = ChooseStrategy(*prepared.live, incoming.model);
  if (!strategy) return std::unexpected(std::move(strategy).error());
  prepared.strategy = *std::move(strategy);
  const GenerateRequest& request = incoming.request;
  const SteadyTime now = services_.clock->Now();

  DecisionRecord& record = prepared.record;
  record.strategy = prepared.strategy->strategy.name;
  record.strategy_digest = prepared.strategy->digest;
  record.key = incoming.key;
  record.device = services_.targets->ReadDevice();

  RequestFacts& facts = record.facts;
  facts.model = incoming.model;
  // Its digest only: the record is kept, and what clients call their users is theirs.
  facts.subject = crypto::Sha256Hex(!incoming.conversation_id.empty() ? incoming.conversation_id
                                    : !incoming.user.empty()          ? incoming.user
                                                                      : incoming.key_id);
  facts.mode = request.local_only ? Mode::kOnlyOnDevice : incoming.mode;
  facts.privacy = std::max(request.privacy, prepared.live->table.privacy);
  facts.require_high_quality = request.require_high_quality;
  facts.needs_tools = !request.tools_json.empty();
  facts.prompt_tokens = EstimatePromptTokens(request);
  facts.answer_tokens =
      std::min(request.max_tokens.value_or(kExpectedAnswerTokens), kExpectedAnswerTokens);
  facts.may_fall_back = incoming.may_fall_back;
  facts.max_ttft_ms = incoming.max_ttft_ms;
  facts.max_latency_ms = incoming.max_latency_ms;
  facts.max_cost_usd = incoming.max_cost_usd;

  const AskedFor asked = FindAskedFor(request.messages);
  const Classification task = Classify(asked.text, {.previous_user_text = asked.before,
                                                    .has_code = asked.has_code,
                                                    .has_tools = facts.needs_tools});
  facts.task = task.task;
  facts.complex_reasoning = task.complex_reasoning;
  record.task_reason = task.reason;

  if (services_.conversations != nullptr) {
    prepared.fingerprint = services_.conversations->FingerprintOf(
        incoming.key_id, incoming.conversation_id, request.messages);
    if (auto known = services_.conversations->Find(*prepared.fingerprint)) {
      facts.conversation_privacy = known->privacy;
      // Whoever asks the same question anew begins another conversation.
      if (!incoming.conversation_id.empty() || asked.answered) {
        facts.pinned_target = std::move(known->target);
      }
    }
  }
  if (auto canary = canary_.Assign(facts.subject)) {
    const bool ours = canary->strategy.empty()
                          ? prepared.strategy == prepared.live->strategies.front()
                          : canary->strategy == record.strategy;
    if (ours) {
      facts.canary_target = std::move(canary->target);
      facts.canary_baseline = std::move(canary->baseline);
      facts.canary_assigned = canary->assigned;
    }
  }

  for (size_t i = 0; i < prepared.strategy->strategy.targets.size(); ++i) {
    prepared.found.push_back(services_.targets->Find(prepared.strategy->strategy.targets[i]));
    TargetState state = prepared.found.back().state;
    prepared.strategy->health[i]->Describe(now, &state);
    record.states.push_back(std::move(state));
  }
  RoundFigures(&record);
  record.decision =
      Decide(prepared.strategy->strategy, record.states, record.device, record.key, record.facts);
  if (prepared.live->table.cascade) {
    record.cascade = NoteOf(*prepared.live->table.cascade, prepared.strategy->strategy, record);
  }
  return prepared;
}

std::expected<DecisionRecord, Failure> Dispatcher::Explain(const Incoming& incoming) {
  auto prepared = Prepare(incoming);
  if (!prepared) return std::unexpected(std::move(prepared).error());
  return std::move(prepared->record);
}

RunPlan Dispatcher::NewPlan(const Prepared& prepared) const {
  RunPlan plan;
  plan.clock = services_.clock;
  plan.records = services_.records;
  plan.random = services_.random;
  plan.table_digest = prepared.live->table.digest;
  plan.options.deadline = prepared.strategy->deadline;
  plan.options.hand_off_allowed = prepared.strategy->hand_off;
  plan.options.prompt_tokens = prepared.record.facts.prompt_tokens;
  plan.retry_budget = prepared.live->retry_budget;
  plan.options.retry_budget = plan.retry_budget.get();
  plan.options.random = services_.random;
  plan.options.clock = services_.clock;
  plan.options.timers = services_.timers;
  return plan;
}

// `last`: nobody comes after it.
void Dispatcher::AddCandidate(const Prepared& prepared, const Incoming& incoming,
                              const Candidate& candidate, bool last, RunPlan* plan) const {
  const Strategy& strategy = prepared.strategy->strategy;
  const auto target = std::ranges::find(strategy.targets, candidate.target, &Target::id);
  TANDEM_CHECK(target != strategy.targets.end());
  const auto index = static_cast<size_t>(target - strategy.targets.begin());
  const TargetSource::Found& found = prepared.found[index];
  if (found.provider == nullptr) return;  // the source said otherwise in its state
  const TargetRun& run = prepared.strategy->runs[index];
  relay::Candidate relayed;
  relayed.provider = found.provider;
  if (target->tier == Tier::kCloud) {
    relayed.provider = std::make_shared<privacy::EgressGate>(
        found.provider, prepared.live->redactor, target->privacy);
  }
  const auto& cascade = prepared.live->table.cascade;
  if (cascade && IsHeld(*target, last)) {
    relayed.provider =
        std::make_shared<ConfidentProvider>(std::move(relayed.provider), services_.clock,
                                            ConfidenceOf(*cascade, prepared.record.facts.task));
  }
  if (incoming.request.quality_check && !incoming.streamed) {
    relayed.provider = std::make_shared<CheckedProvider>(std::move(relayed.provider));
  }
  relayed.target = target->id;
  relayed.tier = target->tier;
  relayed.reason = candidate.reason;
  relayed.timeouts = {run.first_token_timeout, run.between_tokens_timeout, run.total_timeout};
  relayed.continuation = ContinuationOf(run, found.continues);
  relayed.hold_tokens = run.hold_tokens;
  relayed.hold = run.hold;
  relayed.hedge_after = run.hedge_after;
  relayed.max_retries = run.max_retries;
  plan->candidates.push_back(std::move(relayed));
  plan->health.push_back(
      {prepared.strategy->health[index], run.slow_after, candidate.reason == "least_bad"});
}

// The same question to the first candidate on the other side, device or cloud, for figures that
// compare like with like. It goes through the same gate; nobody sees its answer, and it is on
// nobody's budget.
void Dispatcher::StartShadow(const Prepared& prepared, const Incoming& incoming) {
  if (services_.random() >= prepared.strategy->shadow_share) return;
  const std::vector<Candidate>& candidates = prepared.record.decision.candidates;
  const auto on_device = [&](const Candidate& candidate) {
    const auto& targets = prepared.strategy->strategy.targets;
    const auto target = std::ranges::find(targets, candidate.target, &Target::id);
    return target != targets.end() && target->tier != Tier::kCloud;
  };
  const auto other = std::ranges::find_if(candidates, [&](const Candidate& candidate) {
    return on_device(candidate) != on_device(candidates.front());
  });
  if (other == candidates.end()) return;
  RunPlan plan = NewPlan(prepared);
  Candidate shadow = *other;
  shadow.reason = "shadow";
  AddCandidate(prepared, incoming, shadow, /*last=*/true, &plan);
  if (plan.candidates.empty()) return;
  plan.candidates.front().max_retries = 0;
  plan.record = prepared.record;
  plan.incoming = incoming;
  plan.incoming.request.request_id += "-shadow";
  plan.incoming.key_id = plan.incoming.account = "shadow";
  // Kept by its own sink until its last event.
  struct Kept {
    std::shared_ptr<RoutedRequest> request;
    std::mutex mutex;
    std::unique_ptr<Generation> generation;  // guarded by mutex
    bool ended = false;                      // guarded by mutex
  };
  auto kept = std::make_shared<Kept>();
  kept->request = RoutedRequest::Make(std::move(plan));
  auto generation = kept->request->Start([kept](const GenerateEvent& event) {
    if (std::holds_alternative<TextDelta>(event)) return;
    std::unique_ptr<Generation> finished;  // dropped after the lock
    std::lock_guard lock(kept->mutex);
    kept->ended = true;
    finished = std::move(kept->generation);
  });
  std::lock_guard lock(kept->mutex);
  if (!kept->ended) kept->generation = std::move(generation);
}

std::expected<std::shared_ptr<RoutedRequest>, Failure> Dispatcher::Route(Incoming incoming) {
  auto prepared = Prepare(incoming);
  if (!prepared) {
    RecordRefusal(incoming, prepared.error());
    return std::unexpected(std::move(prepared).error());
  }
  const Decision& decision = prepared->record.decision;
  // Before anything is answered or refused: a conversation that has to stay is known to, whatever
  // becomes of this request.
  if (prepared->fingerprint) Remember(*prepared->fingerprint, decision.privacy, incoming);

  GenerateRequest& request = incoming.request;
  // What the egress gates look at: the strictest of all that applied.
  request.privacy = decision.privacy;
  request.local_only |= decision.mode == Mode::kOnlyOnDevice;
  RunPlan plan = NewPlan(*prepared);
  for (size_t i = 0; i < decision.candidates.size(); ++i) {
    const bool last = i + 1 == decision.candidates.size();
    AddCandidate(*prepared, incoming, decision.candidates[i], last, &plan);
    if (last || plan.candidates.empty() || plan.candidates.back().hedge_after) continue;
    plan.candidates.back().hedge_after =
        HedgeFor(incoming.max_ttft_ms, decision.candidates[i + 1].predicted_ttft_ms);
  }
  if (plan.candidates.empty()) {
    Failure failure{
        decision.failure.value_or(FailureCode::kUnavailable),
        decision.failure_message.empty() ? "no provider can answer" : decision.failure_message};
    if (decision.retry_after_s > 0) {
      failure.retry_after =
          std::chrono::milliseconds(static_cast<int64_t>(decision.retry_after_s * 1e3));
    }
    if (services_.records != nullptr) {
      services_.records->Keep(
          RefusalRecord(incoming, &prepared->record, prepared->live->table.digest, failure,
                        *services_.clock),
          {});
    }
    return std::unexpected(std::move(failure));
  }

  const RequestFacts& facts = prepared->record.facts;
  if (!facts.canary_target.empty()) {
    const std::string& arm = facts.canary_assigned ? facts.canary_target : facts.canary_baseline;
    if (plan.candidates.front().target == arm &&
        plan.candidates.front().reason != "explicit_model") {
      plan.canary_control = &canary_;
      plan.canary = facts.canary_assigned;
      RememberArm(request.request_id, facts.canary_assigned);
    }
  }
  if (incoming.max_latency_ms) {
    const std::chrono::milliseconds limit(static_cast<int64_t>(*incoming.max_latency_ms));
    if (plan.options.deadline.count() == 0 || limit < plan.options.deadline) {
      plan.options.deadline = limit;
    }
  }
  plan.options.hand_off_allowed &= incoming.may_fall_back;
  if (prepared->strategy->shadow_share > 0) StartShadow(*prepared, incoming);
  if (prepared->fingerprint) {
    plan.conversations = services_.conversations;
    plan.fingerprint = *std::move(prepared->fingerprint);
  }
  plan.record = std::move(prepared->record);
  plan.incoming = std::move(incoming);
  return RoutedRequest::Make(std::move(plan));
}

void Dispatcher::Remember(const privacy::Conversations::Fingerprint& fingerprint, Privacy privacy,
                          const Incoming& incoming) {
  if (privacy == Privacy::kAny) return;
  const Status kept = services_.conversations->Remember(fingerprint, {.privacy = privacy});
  if (!kept) {
    log::Error("{} conversation: {}", incoming.request.request_id, kept.error().message);
  }
}

void Dispatcher::RecordRefusal(const Incoming& incoming, const Failure& failure) {
  if (services_.conversations != nullptr) {
    const Privacy privacy =
        std::max({incoming.request.privacy, incoming.key.privacy, live()->table.privacy});
    if (privacy != Privacy::kAny) {
      Remember(services_.conversations->FingerprintOf(incoming.key_id, incoming.conversation_id,
                                                      incoming.request.messages),
               privacy, incoming);
    }
  }
  if (services_.records == nullptr) return;
  services_.records->Keep(
      RefusalRecord(incoming, nullptr, live()->table.digest, failure, *services_.clock), {});
}

Status Dispatcher::StartCanary(CanaryPlan plan, std::string_view who) {
  RoutingTable with_plan = live()->table;
  with_plan.canary = plan;
  TANDEM_RETURN_IF_ERROR(Check(with_plan));
  return canary_.Start(std::move(plan), who);
}

void Dispatcher::RememberArm(const std::string& request_id, bool canary) {
  std::lock_guard lock(mutex_);
  if (arm_order_.size() < kRememberedAnswers) {
    arm_order_.push_back(request_id);
  } else {
    arms_.erase(std::exchange(arm_order_[next_arm_], request_id));
    next_arm_ = (next_arm_ + 1) % kRememberedAnswers;
  }
  arms_.emplace(request_id, canary);
}

Status Dispatcher::Engage(std::string_view request_id) {
  bool canary = false;
  {
    std::lock_guard lock(mutex_);
    const auto found = arms_.find(request_id);
    if (found == arms_.end()) {
      return Err(ErrorCode::kNotFound,
                 "no answer of a roll-out is known by that id; only the last {} are, once each",
                 kRememberedAnswers);
    }
    canary = found->second;
    arms_.erase(found);
  }
  canary_.Engage(canary);
  return {};
}

std::vector<TargetReport> Dispatcher::Targets() const {
  const std::shared_ptr<const Live> current = live();
  const SteadyTime now = services_.clock->Now();
  std::vector<TargetReport> reports;
  for (const auto& strategy : current->strategies) {
    for (size_t i = 0; i < strategy->strategy.targets.size(); ++i) {
      const Target& target = strategy->strategy.targets[i];
      TargetReport& report = reports.emplace_back();
      report.strategy = strategy->strategy.name;
      report.target = target.id;
      report.model = target.model;
      report.tier = target.tier;
      report.state = services_.targets->Find(target).state;
      strategy->health[i]->Describe(now, &report.state);
      report.breaker = strategy->health[i]->breaker_state(now);
      report.times_opened = strategy->health[i]->times_opened();
    }
  }
  return reports;
}

}  // namespace tandem::gateway::dispatch
