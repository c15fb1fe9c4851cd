// A decision and everything that it was made from, as JSON text: kept with every request, shown by
// `tandem route explain`, and enough to make the same decision again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/router/policy.h"

namespace tandem::gateway {

// How the beginnings of local answers are judged before they are shown, for people: no part of the
// decision itself.
struct CascadeNote {
  std::vector<std::string> targets;  // of the candidates: those whose answers are
  int32_t tokens = 0;
  double hold_ms = 0;
  std::optional<double> min_probability;  // one of the two
  std::optional<double> min_mean_logprob;
};

struct DecisionRecord {
  std::string strategy;         // its name
  std::string strategy_digest;  // which of its versions: of StrategyJson, made by the caller
  std::vector<TargetState> states;
  DeviceState device;
  KeyPolicy key;
  RequestFacts facts;
  std::string task_reason;  // the classifier's: a rule's name, or "model"
  Decision decision;
  std::optional<CascadeNote> cascade = std::nullopt;  // absent: nothing is held for it
};

// Rounds a figure to the six significant digits that a record keeps. Decide is given rounded ones,
// so that a decision made again from its record is the same to the last bit.
void RoundFigures(Strategy* strategy);
void RoundFigures(DecisionRecord* record);  // all but the decision

// {"format":1,"strategy":...,"strategy_digest":...,"facts":{...},"key":{...},"device":{...},
// "states":[...],"decision":{...},"cascade":{...}}, the last one where there is any. No word of the
// conversation is in it. Names are those of the structs of policy.h; what is unknown is null.
std::string DecisionRecordJson(const DecisionRecord& record);

// Errors: kCorrupt.
Result<DecisionRecord> ParseDecisionRecord(std::string_view json);

// A strategy's canonical text: the same strategy always gives the same bytes.
std::string StrategyJson(const Strategy& strategy);
// Errors: kCorrupt; those of Validate.
Result<Strategy> ParseStrategyJson(std::string_view json);

// Makes the decision again. Where no figure was rounded before the decision was made, a limit that
// was met to the last digit can come out on the other side. Errors: kCorrupt where the record is
// not of this strategy; kInternal where the outcome differs from the recorded one, with both.
Result<Decision> ReplayDecision(const Strategy& strategy, const DecisionRecord& record);

// A decision alone, as DecisionRecordJson has it.
std::string DecisionJson(const Decision& decision);

}  // namespace tandem::gateway
