#include "app/routing_state.h"

#include <chrono>
#include <utility>

#include <boost/json.hpp>

namespace tandem::app {
namespace {

namespace json = boost::json;
using gateway::Canary;
using gateway::CanaryOptions;
using gateway::dispatch::CanaryPlan;
using gateway::dispatch::StoredCanary;

constexpr store::Migration kMigrations[] = {
    {"rollout",
     // At most one row, with id 1.
     "CREATE TABLE rollout ("
     "  id INTEGER PRIMARY KEY,"
     "  version BIGINT NOT NULL,"
     "  epoch BIGINT NOT NULL,"
     "  plan TEXT NOT NULL,"  // JSON
     "  state TEXT NOT NULL,"
     "  step INTEGER NOT NULL,"
     "  step_began_ms BIGINT NOT NULL,"
     "  last_reason TEXT NOT NULL"
     ");"
     // Of the epoch in force.
     "CREATE TABLE rollout_figures ("
     "  epoch BIGINT NOT NULL,"
     "  node TEXT NOT NULL,"
     "  figures BLOB NOT NULL,"
     "  PRIMARY KEY (epoch, node)"
     ");"},
    {"strategies",
     "CREATE TABLE strategies ("
     "  digest TEXT PRIMARY KEY,"
     "  strategy TEXT NOT NULL,"    // JSON
     "  last_used BIGINT NOT NULL"  // seconds since 1970
     ");"},
};

// Every field of a plan, in the order of its structure.
std::string PlanJson(const CanaryPlan& plan) {
  const CanaryOptions& options = plan.options;
  return json::serialize(json::object{{"id", options.id},
                                      {"steps", json::value_from(options.steps)},
                                      {"min_step_s", options.min_step_time.count()},
                                      {"bake_s", options.bake_time.count()},
                                      {"max_step_factor", options.max_step_factor},
                                      {"step_s", options.step_time.count()},
                                      {"alpha", options.alpha},
                                      {"worse_ratio", json::value_from(options.worse_ratio)},
                                      {"min_samples", json::value_from(options.min_samples)},
                                      {"min_error_samples", options.min_error_samples},
                                      {"failures_in_a_row", options.failures_in_a_row},
                                      {"target", plan.target},
                                      {"baseline", plan.baseline},
                                      {"strategy", plan.strategy}});
}

// Nothing where it is none.
std::optional<CanaryPlan> ParsePlan(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* const object = value.if_object();
  if (error || object == nullptr) return std::nullopt;
  CanaryPlan plan;
  bool good = true;
  const auto read = [&]<typename T>(std::string_view name, T* to) {
    const json::value* const field = object->if_contains(name);
    auto found = field == nullptr ? boost::system::result<T>(boost::json::error::not_found)
                                  : json::try_value_to<T>(*field);
    if (found) *to = *std::move(found);
    good = good && found.has_value();
  };
  const auto read_seconds = [&](std::string_view name, std::chrono::seconds* to) {
    int64_t seconds = 0;
    read(name, &seconds);
    *to = std::chrono::seconds(seconds);
  };
  CanaryOptions& options = plan.options;
  read("id", &options.id);
  read("steps", &options.steps);
  read_seconds("min_step_s", &options.min_step_time);
  read_seconds("bake_s", &options.bake_time);
  read("max_step_factor", &options.max_step_factor);
  read_seconds("step_s", &options.step_time);
  read("alpha", &options.alpha);
  read("worse_ratio", &options.worse_ratio);
  read("min_samples", &options.min_samples);
  read("min_error_samples", &options.min_error_samples);
  read("failures_in_a_row", &options.failures_in_a_row);
  read("target", &plan.target);
  read("baseline", &plan.baseline);
  read("strategy", &plan.strategy);
  if (!good || !gateway::Validate(options)) return std::nullopt;
  return plan;
}

std::optional<Canary::State> ParseState(std::string_view name) {
  for (const Canary::State state : {Canary::State::kRunning, Canary::State::kHeld,
                                    Canary::State::kPromoted, Canary::State::kRolledBack}) {
    if (gateway::CanaryStateName(state) == name) return state;
  }
  return std::nullopt;
}

int64_t Milliseconds(SystemTime time) {
  return std::chrono::floor<std::chrono::milliseconds>(time).time_since_epoch().count();
}

}  // namespace

Status MigrateRoutingState(store::Database* database) {
  return database->Migrate("routing", kMigrations);
}

Result<std::optional<StoredCanary>> SqlCanaryStore::Read() {
  bool corrupt = false;
  auto stored = database_->QueryOne<StoredCanary>(
      "SELECT version, epoch, plan, state, step, step_began_ms, last_reason FROM rollout "
      "WHERE id = 1",
      {}, [&](const store::Row& row) {
        const auto plan = ParsePlan(row.Text(2));
        const auto state = ParseState(row.Text(3));
        corrupt = !plan || !state;
        return StoredCanary{
            .version = row.Int(0),
            .epoch = row.Int(1),
            .plan = plan.value_or(CanaryPlan()),
            .position = {.state = state.value_or(Canary::State::kHeld),
                         .step = static_cast<int>(row.Int(4)),
                         .step_began = SystemTime(std::chrono::milliseconds(row.Int(5)))},
            .last_reason = row.Text(6)};
      });
  TANDEM_RETURN_IF_ERROR(stored);
  if (corrupt) {
    return Err(ErrorCode::kCorrupt,
               "the table rollout holds a plan or a state that is none; restore the database from "
               "a backup, or delete that row to begin without a roll-out");
  }
  return stored;
}

Result<bool> SqlCanaryStore::Replace(const StoredCanary& next) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  int64_t n_rows = 0;
  const std::string plan = PlanJson(next.plan);
  const std::string_view state = gateway::CanaryStateName(next.position.state);
  if (next.version == 1) {
    TANDEM_ASSIGN_OR_RETURN(
        n_rows, transaction.Execute(
                    "INSERT INTO rollout (id, version, epoch, plan, state, step, step_began_ms, "
                    "last_reason) VALUES (1, $1, $2, $3, $4, $5, $6, $7) "
                    "ON CONFLICT (id) DO NOTHING",
                    {next.version, next.epoch, plan, state, next.position.step,
                     Milliseconds(next.position.step_began), next.last_reason}));
  } else {
    TANDEM_ASSIGN_OR_RETURN(
        n_rows, transaction.Execute(
                    "UPDATE rollout SET version = $1, epoch = $2, plan = $3, state = $4, "
                    "step = $5, step_began_ms = $6, last_reason = $7 "
                    "WHERE id = 1 AND version = $8",
                    {next.version, next.epoch, plan, state, next.position.step,
                     Milliseconds(next.position.step_began), next.last_reason, next.version - 1}));
  }
  if (n_rows == 0) return false;
  TANDEM_RETURN_IF_ERROR(
      transaction.Execute("DELETE FROM rollout_figures WHERE epoch <> $1", {next.epoch}));
  TANDEM_RETURN_IF_ERROR(transaction.Commit());
  return true;
}

Status SqlCanaryStore::Publish(int64_t epoch, std::string_view node, std::string_view figures) {
  TANDEM_RETURN_IF_ERROR(
      database_->Execute("INSERT INTO rollout_figures (epoch, node, figures) "
                         "SELECT $1, $2, $3 FROM rollout WHERE id = 1 AND epoch = $1 "
                         "ON CONFLICT (epoch, node) DO UPDATE SET figures = excluded.figures",
                         {epoch, node, store::Blob{std::string(figures)}}));
  return {};
}

Result<std::vector<std::string>> SqlCanaryStore::Figures(int64_t epoch) {
  return database_->Query<std::string>("SELECT figures FROM rollout_figures WHERE epoch = $1",
                                       {epoch}, [](const store::Row& row) { return row.Blob(0); });
}

Result<bool> SqlCanaryStore::Decides() {
  if (lock_ && !lock_->Held()) lock_.reset();
  if (!lock_) {
    TANDEM_ASSIGN_OR_RETURN(auto lock, database_->TryHold("rollout"));
    if (lock) lock_.emplace(*std::move(lock));
  }
  return lock_.has_value();
}

Status SqlStrategyArchive::Keep(std::string_view digest, std::string_view json) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  TANDEM_RETURN_IF_ERROR(transaction.Execute(
      "INSERT INTO strategies (digest, strategy, last_used) VALUES ($1, $2, $3) "
      "ON CONFLICT (digest) DO UPDATE SET last_used = excluded.last_used",
      {digest, json, UnixSeconds(clock_->SystemNow())}));
  TANDEM_RETURN_IF_ERROR(transaction.Execute(
      "DELETE FROM strategies WHERE digest NOT IN "
      "(SELECT digest FROM strategies ORDER BY last_used DESC, digest DESC LIMIT $1)",
      {kMaxKept}));
  return transaction.Commit();
}

Result<std::optional<std::string>> SqlStrategyArchive::Find(std::string_view digest) {
  return database_->QueryOne<std::string>("SELECT strategy FROM strategies WHERE digest = $1",
                                          {digest},
                                          [](const store::Row& row) { return row.Text(0); });
}

}  // namespace tandem::app
