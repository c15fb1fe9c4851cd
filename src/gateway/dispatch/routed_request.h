// One decided request: its answer comes from the candidates of its decision, and its books are kept
// here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider/provider.h"
#include "gateway/relay/relay.h"
#include "gateway/router/record.h"
#include "gateway/usage/record.h"

namespace tandem::gateway::dispatch {

// Keeps what is known about finished requests: the usage writer, metrics, budgets, receipts. app/
// or gateway/ implements it. Thread: any. Must not wait.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  struct AnswerFigures {
    std::string sha256;           // of its text, hexadecimal; empty: there was none
    usage::InterTokenTimes gaps;  // between its pieces
  };
  // Once for every request. `record` has everything but prices and the receipt.
  virtual void Keep(usage::UsageRecord record, AnswerFigures answer) = 0;
};

struct RunPlan;

// Made by Dispatcher::Route; started at most once. One that is never started is recorded as
// cancelled when it is destroyed.
class RoutedRequest final {
 public:
  // For Dispatcher::Route; run.h says what a plan is.
  static std::shared_ptr<RoutedRequest> Make(RunPlan plan);
  ~RoutedRequest();

  // Who answers: the first candidate until an answer is committed, then the one that the client saw
  // first. Thread: any.
  struct Route {
    std::string target;
    std::string model;
    Tier tier = Tier::kCloud;
    std::string reason;
  };
  Route route() const;
  // The strictest that applied.
  Privacy privacy() const;
  // Where it stands before anything ran, for headers and records.
  const DecisionRecord& record() const;

  // It will not be started after all: recorded with this failure.
  void Refuse(const Failure& failure);

  // Never null. Events and cancellation as provider.h says; the handle may outlive this object.
  std::unique_ptr<Generation> Start(EventSink sink);

 private:
  class Run;
  explicit RoutedRequest(std::shared_ptr<Run> run) : run_(std::move(run)) {}
  const std::shared_ptr<Run> run_;
};

}  // namespace tandem::gateway::dispatch
