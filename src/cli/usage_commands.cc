// tandem usage.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/usage_records.h"
#include "cli/command.h"
#include "cli/time_text.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;
namespace usage = gateway::usage;

struct UsageFlags {
  std::string since = "24h";
  std::string by = "model";
  std::string key;
  std::string request_id;
  std::string cursor;
  std::string older_than;
  std::string file;
  int limit = 50;
  bool as_json = false;
  StateOption state;
  RealClock clock;

  Result<std::unique_ptr<app::UsageRecords>> Open() const {
    TANDEM_ASSIGN_OR_RETURN(const auto place, state.Get());
    return app::UsageRecords::Open(place, &clock);
  }
  int64_t NowMs() const { return UnixSeconds(clock.SystemNow()) * 1000; }

  Result<usage::UsageQuery> Query(app::UsageRecords& records) const {
    usage::UsageQuery query;
    if (since != "all") {
      auto span = ParseSpan(since);
      if (!span) return Wrap(std::move(span).error(), "--since");
      query.since_ms = NowMs() - span->count() * 1000;
    }
    if (!key.empty()) {
      TANDEM_ASSIGN_OR_RETURN(query.account, records.AccountOf(key));
    }
    return query;
  }
};

json::object ToJson(const usage::LatencyQuantiles& latency) {
  return {
      {"count", latency.count}, {"p50", latency.p50}, {"p95", latency.p95}, {"p99", latency.p99}};
}

json::object ToJson(const usage::UsageSum& sum) {
  return {{"group", sum.group},
          {"requests", sum.requests},
          {"failed", sum.failed},
          {"client_gone", sum.client_gone},
          {"calls", sum.calls},
          {"handed_off", sum.handed_off},
          {"prompt_tokens", sum.usage.prompt_tokens},
          {"completion_tokens", sum.usage.completion_tokens},
          {"cached_tokens", sum.usage.cached_tokens},
          {"cost_usd", usage::FormatUsd(sum.cost)},
          {"reference_cost_usd", usage::FormatUsd(sum.reference)},
          {"saved_usd", usage::FormatUsd(sum.reference - sum.cost)},
          {"unpriced_requests", sum.unpriced},
          {"ttft_ms", ToJson(sum.ttft_ms)},
          {"e2e_ms", ToJson(sum.e2e_ms)}};
}

std::string QuantilesText(const usage::LatencyQuantiles& latency) {
  if (latency.count == 0) return "-";
  return fmt::format("{:.0f}/{:.0f}/{:.0f}", latency.p50, latency.p95, latency.p99);
}

std::vector<std::string> RowOf(std::string group, const usage::UsageSum& sum) {
  // Not wholly known: the true cost is at least this.
  const std::string_view at_least = sum.unpriced > 0 ? ">=" : "";
  return {std::move(group),
          std::to_string(sum.requests),
          std::to_string(sum.failed),
          std::to_string(sum.calls),
          std::to_string(sum.usage.prompt_tokens),
          std::to_string(sum.usage.completion_tokens),
          fmt::format("{}{}", at_least, usage::FormatUsd(sum.cost)),
          usage::FormatUsd(sum.reference),
          usage::FormatUsd(sum.reference - sum.cost),
          QuantilesText(sum.ttft_ms),
          QuantilesText(sum.e2e_ms)};
}

Status SumUsage(const UsageFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const usage::GroupBy by, usage::ParseGroupBy(flags.by));
  TANDEM_ASSIGN_OR_RETURN(const auto records, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const usage::UsageQuery query, flags.Query(*records));
  TANDEM_ASSIGN_OR_RETURN(const auto groups, records->reader().Sum(query, by));
  TANDEM_ASSIGN_OR_RETURN(const auto all, records->reader().Sum(query, usage::GroupBy::kAll));
  TANDEM_ASSIGN_OR_RETURN(const auto names, records->AccountNames());
  const auto name_of = [&](const usage::UsageSum& sum) {
    const auto found = names.find(sum.group);
    return found == names.end() ? std::string() : found->second;
  };
  const usage::UsageSum total = all.empty() ? usage::UsageSum() : all.front();
  if (flags.as_json) {
    json::array array;
    for (const usage::UsageSum& sum : groups) {
      json::object object = ToJson(sum);
      if (by == usage::GroupBy::kKey) object["key_name"] = name_of(sum);
      array.push_back(std::move(object));
    }
    const json::object object{{"since_ms", query.since_ms},
                              {"by", usage::GroupByName(by)},
                              {"groups", std::move(array)},
                              {"total", ToJson(total)}};
    return Print(json::serialize(object) + "\n");
  }
  std::vector<std::vector<std::string>> rows;
  for (const usage::UsageSum& sum : groups) {
    std::string group = sum.group.empty() ? "(nobody)" : sum.group;
    if (by == usage::GroupBy::kKey) group = fmt::format("{} ({})", name_of(sum), sum.group);
    if (by != usage::GroupBy::kAll) rows.push_back(RowOf(std::move(group), sum));
  }
  rows.push_back(RowOf("all", total));
  return PrintTable(
      {fmt::format("{:<6}", flags.by), "REQUESTS", "FAILED", "CALLS", "PROMPT", "COMPLETION", "USD",
       "CLOUD ALONE", "SAVED", "TTFT ms p50/95/99", "E2E ms p50/95/99"},
      rows);
}

Status ShowUsage(const UsageFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto records, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const auto record, records->reader().Find(flags.request_id));
  if (!record) {
    return Err(ErrorCode::kNotFound,
               "no usage record has the request id '{}'; 'tandem usage list' shows the newest",
               flags.request_id);
  }
  return Print(usage::RecordToJson(*record) + "\n");
}

Status ListUsage(const UsageFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto records, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const usage::UsageQuery query, flags.Query(*records));
  TANDEM_ASSIGN_OR_RETURN(const auto page,
                          records->reader().List(query, flags.limit, flags.cursor));
  if (flags.as_json) {
    std::string text = "{\"records\":[";
    for (size_t i = 0; i < page.records.size(); ++i) {
      if (i > 0) text += ',';
      text += usage::RecordToJson(page.records[i]);
    }
    return Print(text + "],\"next\":" + json::serialize(json::value(page.next)) + "}\n");
  }
  std::vector<std::vector<std::string>> rows;
  for (const usage::UsageRecord& record : page.records) {
    rows.push_back(
        {usage::FormatTimeMs(record.started_at_ms), record.request_id,
         record.model.empty() ? "-" : record.model, std::string(usage::OutcomeName(record)),
         std::to_string(record.usage.prompt_tokens), std::to_string(record.usage.completion_tokens),
         usage::FormatUsd(record.cost), fmt::format("{:.0f}", record.e2e_ms)});
  }
  TANDEM_RETURN_IF_ERROR(PrintTable(
      {"TIME", "REQUEST", "MODEL", "OUTCOME", "PROMPT", "COMPLETION", "USD", "E2E ms"}, rows));
  if (!page.next.empty()) PrintError(fmt::format("more with --cursor {}\n", page.next));
  return {};
}

Status PruneUsage(const UsageFlags& flags) {
  auto span = ParseSpan(flags.older_than);
  if (!span) return Wrap(std::move(span).error(), "--older-than");
  TANDEM_ASSIGN_OR_RETURN(const auto records, flags.Open());
  TANDEM_ASSIGN_OR_RETURN(const int64_t n_deleted,
                          records->reader().DeleteBefore(flags.NowMs() - span->count() * 1000));
  if (flags.as_json) {
    return Print(json::serialize(json::object{{"deleted", n_deleted}}) + "\n");
  }
  return Print(fmt::format("deleted {} records\n", n_deleted));
}

Status ListPrices(const UsageFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const usage::PriceTable table, app::LoadPrices(flags.file));
  json::array array;
  std::vector<std::vector<std::string>> rows;
  for (const usage::Price& price : table.List()) {
    const std::string tier = price.device ? "device" : "cloud";
    const std::string day = usage::FormatTimeMs(price.from_ms).substr(0, 10);
    const auto optional_usd = [](const std::optional<usage::NanoUsd>& amount) {
      return amount ? usage::FormatUsd(*amount) : std::string("-");
    };
    rows.push_back({price.model.empty() ? "(others)" : price.model, tier, day,
                    usage::FormatUsd(price.input), optional_usd(price.cached_input),
                    usage::FormatUsd(price.output), optional_usd(price.blended), price.source});
    json::object object{{"model", price.model},
                        {"tier", tier},
                        {"from", day},
                        {"input", usage::FormatUsd(price.input)},
                        {"cached_input", nullptr},
                        {"output", usage::FormatUsd(price.output)},
                        {"blended", nullptr},
                        {"source", price.source}};
    if (price.cached_input) object["cached_input"] = usage::FormatUsd(*price.cached_input);
    if (price.blended) object["blended"] = usage::FormatUsd(*price.blended);
    array.push_back(std::move(object));
  }
  if (flags.as_json) return Print(json::serialize(array) + "\n");
  return PrintTable({"MODEL", "TIER", "FROM", "INPUT", "CACHED", "OUTPUT", "BLENDED", "SOURCE"},
                    rows);
}

void AddCommon(CLI::App* command, const std::shared_ptr<UsageFlags>& flags, bool narrowed) {
  command->add_flag("--json", flags->as_json, "Print JSON");
  flags->state.Add(command);
  if (!narrowed) return;
  command->add_option("--since", flags->since, "How far back: 24h (default), 90d, ... or all");
  command->add_option("--key", flags->key, "Of this key (id or name) and those that it replaced");
}

CLI::App* AddSubcommand(CLI::App* parent, Action* action, std::shared_ptr<UsageFlags> flags,
                        const std::string& name, const std::string& help,
                        Status (*run)(const UsageFlags&)) {
  CLI::App* command = parent->add_subcommand(name, help);
  command->callback([flags, action, run] { *action = [flags, run] { return run(*flags); }; });
  return command;
}

}  // namespace

void AddUsageCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<UsageFlags>();
  CLI::App* command =
      app->add_subcommand("usage", "What requests used, cost and saved, and how fast they were");
  command->require_subcommand(0, 1);
  AddCommon(command, flags, /*narrowed=*/true);
  command->add_option("--by", flags->by, "model (default), tier, key, day or all");
  command->callback([command, flags, action] {
    if (command->get_subcommands().empty()) *action = [flags] { return SumUsage(*flags); };
  });

  flags = std::make_shared<UsageFlags>();
  CLI::App* show = AddSubcommand(command, action, flags, "show",
                                 "One request with its decision and attempts", ShowUsage);
  show->add_option("request_id", flags->request_id, "x-request-id of the answer")->required();
  AddCommon(show, flags, /*narrowed=*/false);

  flags = std::make_shared<UsageFlags>();
  CLI::App* list = AddSubcommand(command, action, flags, "list", "The newest requests", ListUsage);
  AddCommon(list, flags, /*narrowed=*/true);
  list->add_option("--limit", flags->limit, "How many (50)")->check(CLI::Range(1, 1000));
  list->add_option("--cursor", flags->cursor, "Where the page before ended");

  flags = std::make_shared<UsageFlags>();
  CLI::App* prune = AddSubcommand(command, action, flags, "prune",
                                  "Delete old records; what keys spent is kept", PruneUsage);
  prune->add_option("--older-than", flags->older_than, "Such as 90d")->required();
  AddCommon(prune, flags, /*narrowed=*/false);

  flags = std::make_shared<UsageFlags>();
  CLI::App* prices =
      AddSubcommand(command, action, flags, "prices", "USD per million tokens", ListPrices);
  prices->add_option("--file", flags->file, "Check and show this file instead");
  prices->add_flag("--json", flags->as_json, "Print JSON");
}

}  // namespace tandem::cli
