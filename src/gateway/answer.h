// One running chat answer: a provider's events in, bytes of the response out. Private to gateway/.
//
// Threads: events come from the provider, one at a time; the client's going and its reading on come
// from the connection's thread. The first kind alone touches the answer's text; what both touch is
// under a mutex. The provider's sink keeps the answer alive; after the last event it keeps itself
// alive until a slow client has taken what waits, or is gone.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "gateway/dispatch/routed_request.h"
#include "gateway/openai/chat_response.h"
#include "gateway/openai/tool_calls.h"
#include "gateway/provider/provider.h"
#include "gateway/relay/timers.h"
#include "net/http_server.h"

namespace tandem::gateway {

// A place among the answers that may run at the same time; gives it back when destroyed.
class InFlightSlot {
 public:
  // Nothing where `limit` answers run already.
  static std::optional<InFlightSlot> TryTake(std::shared_ptr<std::atomic<int>> count, int limit);
  InFlightSlot(InFlightSlot&&) = default;
  InFlightSlot& operator=(InFlightSlot&&) = delete;
  ~InFlightSlot();

 private:
  explicit InFlightSlot(std::shared_ptr<std::atomic<int>> count) : count_(std::move(count)) {}
  std::shared_ptr<std::atomic<int>> count_;  // null once moved from
};

// Retry-After where the same request may be taken a little later, x-should-retry: false where only
// a change on the caller's side would help.
void AddRetryHeaders(const Failure& failure, net::Headers* headers);

enum class AnswerForm { kWhole, kChunks, kLines };

// What is settled before anybody is asked.
struct AnswerPlan {
  AnswerForm form = AnswerForm::kWhole;
  openai::AnswerHead head;
  openai::RouteInfo route;  // who answers is filled in when that is known
  bool wants_calls = false;
  bool wants_logprobs = false;
  bool quality_check = false;
  bool include_usage = false;
  bool include_route = false;  // the `tandem` object
  bool parallel_tool_calls = true;
  net::Headers headers;  // of the response, whatever it becomes
  std::string key_id;    // for the log
  size_t max_pending_bytes = 0;
  const Clock* clock = nullptr;
  // OpenAI's streams get a comment after so much silence, so that proxies in between do not give
  // them up; null: none do.
  relay::Timers* timers = nullptr;
  std::chrono::milliseconds heartbeat{15'000};
};

class Answer : public std::enable_shared_from_this<Answer> {
 public:
  // Starts the request, and keeps it until its last event; the response is answered exactly once,
  // perhaps before this returns.
  static void Run(AnswerPlan plan, const std::shared_ptr<dispatch::RoutedRequest>& routed,
                  std::shared_ptr<net::HttpResponse> response, InFlightSlot slot);

  Answer(AnswerPlan plan, std::shared_ptr<dispatch::RoutedRequest> routed,
         std::shared_ptr<net::HttpResponse> response, InFlightSlot slot);

 private:
  // From the provider's thread.
  void OnEvent(GenerateEvent&& event);
  void OnText(TextDelta&& delta);
  void OnFinished(Finished finished);
  void Deliver(std::vector<openai::ToolCallEvent> events);
  void DeliverText(std::string_view text);
  void DeliverCall(ToolCall call);
  void Complete(const Finished& finished);
  // `finished`: the figures of an answer that ended but is not passed on.
  void Fail(const Failure& failure, const Finished* finished = nullptr);
  void NameRoute();
  bool OpenStream();
  bool ClaimWhole();
  // From a timer's thread.
  void ArmHeartbeat(std::chrono::milliseconds delay);
  void Heartbeat();
  bool Send(std::string bytes, bool last);
  void Log(std::string_view outcome, const Finished* finished) const;

  // From the connection's thread.
  void OnClosed();
  void OnWritable();

  // From either.
  void Cancel();
  void AwaitWritableLocked();
  net::WriteResult FlushLocked();

  // Fixed after construction.
  const std::shared_ptr<dispatch::RoutedRequest> routed_;
  const std::shared_ptr<net::HttpResponse> response_;

  // The provider's thread only, but what a heartbeat needs to open the stream: plan_'s headers,
  // route and head are written once, under open_mutex_, by whoever settles the form.
  AnswerPlan plan_;
  std::optional<InFlightSlot> slot_;              // given back at the terminal event
  std::unique_ptr<openai::AnswerStream> stream_;  // from the first output on
  openai::ToolCallParser calls_in_text_;
  std::string text_;             // so far, where it is needed at the end
  std::vector<ToolCall> calls_;  // kWhole
  int n_calls_ = 0;
  std::vector<TokenLogprob> logprobs_;  // kWhole: all; else those of text that is held back

  // Settles once whether the response is a stream or one body; taken before mutex_.
  std::mutex open_mutex_;
  enum class Settled { kNot, kStream, kWhole } settled_ = Settled::kNot;  // guarded by open_mutex_

  std::mutex mutex_;  // guards all below
  std::string head_;  // the stream's opening event, until it is sent with the first piece
  SteadyTime last_sent_{};
  relay::TimerHandle heartbeat_;
  std::shared_ptr<Generation> generation_;
  bool cancelled_ = false;
  bool ended_ = false;   // the terminal event came
  bool closed_ = false;  // the client is gone, or was cut
  std::string pending_;  // what net/ would not take yet; at most plan_.max_pending_bytes
  bool finish_when_flushed_ = false;
  std::shared_ptr<Answer> keep_alive_;  // between the terminal event and the last byte
};

}  // namespace tandem::gateway
