// tandem keys, tandem audit.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/keys.h"
#include "cli/command.h"
#include "cli/time_text.h"

namespace tandem::cli {
namespace {

namespace auth = gateway::auth;
namespace json = boost::json;

constexpr double kNanoPerUsd = 1e9;

struct KeysFlags {
  std::string name;
  bool as_json = false;
  StateOption state;
  RealClock clock;
  // create
  std::vector<std::string> models;
  std::vector<std::string> tiers;
  std::string privacy = "any";
  std::string budget_usd;
  std::string per = "month";
  std::vector<std::string> scopes;
  std::string expires;
  // rotate
  std::string overlap = "24h";
  // audit
  int limit = 50;
  std::string head;

  Result<std::unique_ptr<app::Keys>> Open() const {
    TANDEM_ASSIGN_OR_RETURN(const auto place, state.Get());
    return app::Keys::Open(place, &clock);
  }
};

Result<int64_t> ParseUsd(std::string_view text) {
  double usd = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), usd, std::chars_format::fixed);
  // A billion dollars fits the integer; a nano-dollar is the smallest budget.
  if (error != std::errc() || end != text.data() + text.size() || !(usd > 0) || usd > 1e9) {
    return Err(ErrorCode::kInvalidArgument,
               "--budget-usd {}: write dollars above 0, for example 10 or 0.5", text);
  }
  return std::max<int64_t>(1, std::llround(usd * kNanoPerUsd));
}

Result<auth::KeyPolicy> PolicyOf(const KeysFlags& flags) {
  auth::KeyPolicy policy;
  policy.models = flags.models;
  policy.privacy = flags.privacy;
  if (!flags.tiers.empty()) {
    policy.device = policy.cloud = false;
    for (const std::string& tier : flags.tiers) {
      if (tier != "device" && tier != "cloud") {
        return Err(ErrorCode::kInvalidArgument, "--tiers {}: write device, cloud or both", tier);
      }
      (tier == "device" ? policy.device : policy.cloud) = true;
    }
  }
  if (!flags.scopes.empty()) {
    policy.chat = policy.admin = false;
    for (const std::string& scope : flags.scopes) {
      if (scope != "chat" && scope != "admin") {
        return Err(ErrorCode::kInvalidArgument, "--scope {}: write chat, admin or both", scope);
      }
      (scope == "chat" ? policy.chat : policy.admin) = true;
    }
  }
  if (!flags.budget_usd.empty()) {
    auth::Budget budget;
    TANDEM_ASSIGN_OR_RETURN(budget.limit_nano_usd, ParseUsd(flags.budget_usd));
    TANDEM_ASSIGN_OR_RETURN(budget.period, auth::ParseBudgetPeriod(flags.per));
    policy.budget = budget;
  }
  if (!flags.expires.empty()) {
    auto span = ParseSpan(flags.expires);
    if (!span) return Wrap(std::move(span).error(), "--expires");
    policy.expires_at = UnixSeconds(flags.clock.SystemNow()) + span->count();
  }
  return policy;
}

std::string BudgetText(const auth::Budget& budget) {
  // As many decimals as it takes: budgets are whole cents more often than not.
  return fmt::format("{} USD {}", static_cast<double>(budget.limit_nano_usd) / kNanoPerUsd,
                     budget.period == auth::BudgetPeriod::kMonth ? "a month" : "in all");
}

template <typename T>
json::value OrNull(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::object ToJson(const auth::KeyRecord& record) {
  const auth::KeyPolicy& policy = record.policy;
  json::array tiers;
  if (policy.device) tiers.emplace_back("device");
  if (policy.cloud) tiers.emplace_back("cloud");
  json::array scopes;
  if (policy.chat) scopes.emplace_back("chat");
  if (policy.admin) scopes.emplace_back("admin");
  json::object object{{"id", record.id},
                      {"name", record.name},
                      {"account", record.account},
                      {"created_at", record.created_at},
                      {"expires_at", OrNull(policy.expires_at)},
                      {"revoked_at", OrNull(record.revoked_at)},
                      {"superseded_by", nullptr},
                      {"overlap_ends_at", OrNull(record.overlap_ends_at)},
                      {"models", json::value_from(policy.models)},
                      {"tiers", std::move(tiers)},
                      {"privacy", policy.privacy},
                      {"scopes", std::move(scopes)},
                      {"budget", nullptr}};
  if (!record.superseded_by.empty()) object["superseded_by"] = record.superseded_by;
  if (policy.budget) {
    object["budget"] = {{"usd", static_cast<double>(policy.budget->limit_nano_usd) / kNanoPerUsd},
                        {"per", auth::BudgetPeriodName(policy.budget->period)}};
  }
  return object;
}

std::string StateOf(const auth::KeyRecord& record, int64_t now) {
  if (record.revoked_at) return "revoked " + FormatTime(*record.revoked_at);
  if (record.overlap_ends_at) {
    return (now < *record.overlap_ends_at ? "replaced, good until " : "replaced, ended ") +
           FormatTime(*record.overlap_ends_at);
  }
  if (!record.policy.expires_at) return "in force";
  return (now < *record.policy.expires_at ? "in force until " : "expired ") +
         FormatTime(*record.policy.expires_at);
}

// What a key may not do, or may do beyond chatting; "" for a plain one.
std::string LimitsOf(const auth::KeyPolicy& policy) {
  std::vector<std::string> limits;
  if (policy.admin) limits.emplace_back(policy.chat ? "chat+admin" : "admin");
  if (!policy.models.empty()) limits.push_back(fmt::format("{}", fmt::join(policy.models, ",")));
  if (!policy.cloud) limits.emplace_back("device only");
  if (!policy.device) limits.emplace_back("cloud only");
  if (policy.privacy != "any") limits.push_back(policy.privacy);
  if (policy.budget) limits.push_back(BudgetText(*policy.budget));
  return fmt::format("{}", fmt::join(limits, "; "));
}

Status PrintKey(const auth::CreatedKey& created, const KeysFlags& flags) {
  if (flags.as_json) {
    json::object object = ToJson(created.record);
    object["key"] = created.text;
    return Print(json::serialize(object) + "\n");
  }
  // The key is the last line, alone, so that a script can take it from there.
  PrintError("This is the only time that the key is shown; only its hash is kept.\n");
  return Print(created.text + "\n");
}

Status CreateKey(const KeysFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auth::KeyPolicy policy, PolicyOf(flags));
  TANDEM_ASSIGN_OR_RETURN(const auto keys, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auto created,
                          keys->ring().Create(flags.name, policy, app::LocalActor()));
  return PrintKey(created, flags);
}

Status RotateKey(const KeysFlags& flags) {
  auto overlap = ParseSpan(flags.overlap);
  if (!overlap) return Wrap(std::move(overlap).error(), "--overlap");
  TANDEM_ASSIGN_OR_RETURN(const auto keys, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auto rotated,
                          keys->ring().Rotate(flags.name, *overlap, app::LocalActor()));
  PrintError(fmt::format("{} is good until {}, then only the new key is.\n",
                         auth::KeyPrefix(rotated.old.id),
                         FormatTime(rotated.old.overlap_ends_at.value_or(0))));
  return PrintKey(rotated.created, flags);
}

Status ListKeys(const KeysFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto keys, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auto records, keys->ring().List());
  if (flags.as_json) {
    json::array array;
    for (const auto& record : records) array.push_back(ToJson(record));
    return Print(json::serialize(array) + "\n");
  }
  const int64_t now = UnixSeconds(flags.clock.SystemNow());
  std::vector<std::vector<std::string>> rows;
  for (const auto& record : records) {
    rows.push_back({record.id, record.name, FormatTime(record.created_at), StateOf(record, now),
                    LimitsOf(record.policy)});
  }
  return PrintTable({"ID", "NAME", "CREATED", "STATE", "LIMITS"}, rows);
}

Status RevokeKey(const KeysFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto keys, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auto records, keys->ring().Revoke(flags.name, app::LocalActor()));
  json::array array;
  std::string lines;
  for (const auto& record : records) {
    array.push_back(ToJson(record));
    lines += fmt::format("revoked {} ({})\n", record.id, record.name);
  }
  return Print(flags.as_json ? json::serialize(array) + "\n" : lines);
}

Status ListAudit(const KeysFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto keys, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auto records, keys->audit().List(flags.limit));
  if (flags.as_json) {
    json::array array;
    for (const auto& record : records) {
      std::error_code error;
      json::value detail = json::parse(record.event.detail, error);
      array.push_back({{"number", record.number},
                       {"at_ms", record.at_ms},
                       {"action", record.event.action},
                       {"who", record.event.who},
                       {"subject", record.event.subject},
                       {"detail", error ? json::value(record.event.detail) : std::move(detail)},
                       {"digest", record.digest}});
    }
    return Print(json::serialize(array) + "\n");
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& record : records) {
    rows.push_back({std::to_string(record.number), FormatTime(record.at_ms / 1000),
                    record.event.action, record.event.who, record.event.subject,
                    record.event.detail});
  }
  return PrintTable({"NUMBER", "TIME", "ACTION", "WHO", "SUBJECT", "DETAIL"}, rows);
}

Status VerifyAudit(const KeysFlags& flags) {
  std::optional<auth::AuditHead> known;
  if (!flags.head.empty()) {
    TANDEM_ASSIGN_OR_RETURN(known, auth::ParseAuditHead(flags.head));
  }
  TANDEM_ASSIGN_OR_RETURN(const auto keys, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auth::AuditHead head, keys->audit().Verify(known));
  if (flags.as_json) {
    return Print(json::serialize(json::object{{"records", head.number},
                                              {"head", auth::FormatAuditHead(head)}}) +
                 "\n");
  }
  return Print(fmt::format("{} records, all whole; the end is\n{}\n", head.number,
                           auth::FormatAuditHead(head)));
}

// Adds a command that takes `--json`, `--data-dir` and, where `argument_help` says so, a name.
CLI::App* AddKeyCommand(CLI::App* parent, Action* action, std::shared_ptr<KeysFlags> flags,
                        const std::string& name, const std::string& help,
                        const std::string& argument_help, Status (*run)(const KeysFlags&)) {
  CLI::App* command = parent->add_subcommand(name, help);
  if (!argument_help.empty()) command->add_option("name", flags->name, argument_help)->required();
  command->add_flag("--json", flags->as_json, "Print JSON");
  flags->state.Add(command);
  command->callback([flags, action, run] { *action = [flags, run] { return run(*flags); }; });
  return command;
}

}  // namespace

void AddKeysCommand(CLI::App* app, Action* action) {
  CLI::App* keys = app->add_subcommand("keys", "Keys that clients call with");
  keys->require_subcommand(1);

  auto flags = std::make_shared<KeysFlags>();
  CLI::App* create = AddKeyCommand(keys, action, flags, "create", "Make a key and print it, once",
                                   "What it is for", CreateKey);
  create->add_option("--models", flags->models, "Only these, with commas (default: all)")
      ->delimiter(',');
  create->add_option("--tiers", flags->tiers, "device, cloud or both (default)")->delimiter(',');
  create->add_option("--privacy", flags->privacy, "At the least: any, redacted or on_device");
  CLI::Option* budget = create->add_option("--budget-usd", flags->budget_usd,
                                           "What it may spend (default: no limit)");
  create->add_option("--per", flags->per, "Of the budget: month (default) or total")->needs(budget);
  create->add_option("--scope", flags->scopes, "chat (default), admin or both")->delimiter(',');
  create->add_option("--expires", flags->expires, "In so long, such as 90d (default: never)");

  flags = std::make_shared<KeysFlags>();
  AddKeyCommand(keys, action, flags, "rotate", "Replace a key; the old one stays good for a while",
                "Its id or name", RotateKey)
      ->add_option("--overlap", flags->overlap, "How long the old key stays good (24h)");

  flags = std::make_shared<KeysFlags>();
  AddKeyCommand(keys, action, flags, "list", "The keys, without their text", "", ListKeys);
  flags = std::make_shared<KeysFlags>();
  AddKeyCommand(keys, action, flags, "revoke", "Refuse a key from now on",
                "Its id, or the name of a key and those that it replaced", RevokeKey);
}

void AddAuditCommand(CLI::App* app, Action* action) {
  CLI::App* audit = app->add_subcommand("audit", "Who changed keys and configuration");
  audit->require_subcommand(1);
  auto flags = std::make_shared<KeysFlags>();
  AddKeyCommand(audit, action, flags, "list", "The newest records", "", ListAudit)
      ->add_option("--limit", flags->limit, "How many (50)")
      ->check(CLI::Range(1, 10'000));
  flags = std::make_shared<KeysFlags>();
  AddKeyCommand(audit, action, flags, "verify", "Whether any record was changed or removed", "",
                VerifyAudit)
      ->add_option("--head", flags->head,
                   "An end that was printed earlier and must still be in the log");
}

}  // namespace tandem::cli
