// An upstream's answer, from the bytes of an HTTP body to a provider's events.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider/provider.h"
#include "gateway/upstream/chunk_scanner.h"
#include "net/sse.h"

namespace tandem::gateway::upstream {

// Reads a stream of chat.completion.chunk events, or, from a server that does not stream, one
// chat.completion object. Bytes are hostile: sizes are bounded and every shape is checked.
//
// What differs between upstreams and is understood from the bytes alone: comments as keep-alive and
// empty lines (DeepSeek), reasoning_content (left out: it is not part of the answer), usage in its
// own chunk or in the last one, a missing [DONE], an error object in the middle of the stream,
// finish_reason insufficient_system_resource. An upstream that reports no usage leaves it zero,
// which no answer's prompt_tokens is otherwise. Function calls arrive in fragments and are passed
// on as they come, one behind the other, as text in the form that gateway/openai's reader of
// function calls knows: whoever watches the answer for loops sees those inside a call too.
// Arguments are a JSON string there, so that they reach the application byte by byte, whether they
// are JSON or not.
//
// Thread: one.
class CompletionReader {
 public:
  enum class Form { kStream, kWhole };
  CompletionReader(Form form, EventSink* sink);

  // False once the terminal event has been sent; what follows is of no interest.
  bool Push(std::string_view bytes);

  // The body ended. Sends the terminal event if none was sent: Finished where the answer was
  // complete, else Failed.
  void End();

  bool ended() const { return ended_; }
  // Grows with everything that the model wrote, thoughts included, and not with signs of life.
  uint64_t n_pieces() const { return n_pieces_; }

 private:
  // Of which the end has not been seen.
  struct OpenCall {
    int64_t index = 0;
    std::string name;
    size_t n_bytes = 0;
    bool begun = false;  // its beginning has been passed on, with the name
  };

  static constexpr int64_t kMaxCalls = 128;

  void OnData(std::string_view data);
  void OnObject(std::string_view text);
  void OnCallFragment(int64_t index, std::string_view name, std::string_view arguments);
  void PassArguments(std::string_view arguments);
  void CloseCall();
  void Finish();
  void Fail(FailureCode code, std::string message);
  void Fail(Failure failure);

  const Form form_;
  EventSink* const sink_;  // not owned
  net::SseParser parser_;
  ChunkScanner scanner_;
  std::string whole_;  // kWhole: the body so far
  std::optional<OpenCall> call_;
  std::bitset<kMaxCalls> calls_seen_;
  std::optional<FinishReason> finish_reason_;
  Usage usage_;
  uint64_t n_pieces_ = 0;
  bool any_chunk_ = false;
  bool ended_ = false;
};

}  // namespace tandem::gateway::upstream
