// The text of one answer, whoever writes it: what has come, what of it may be shown, and what it
// has become. Private to gateway/relay.
//
// Text is held back at the end where it may have to be taken back: it repeats what stands before
// it, a function call is not whole, an escape of JSON is cut, or a stop string may have begun. What
// was shown is final.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider/provider.h"
#include "gateway/relay/json_state.h"
#include "gateway/relay/text_detectors.h"
#include "gateway/relay/tool_call_hold.h"

namespace tandem::gateway::relay {

// Thread: one.
class AnswerText {
 public:
  struct Options {
    bool detect_repetition = true;
    bool json = false;   // the text must be one JSON value
    bool tools = false;  // function calls may be in it
    std::vector<std::string> stop;
  };
  enum class Verdict {
    kGoesOn,
    kComplete,    // a stop string, or text behind a whole JSON value: the rest was dropped
    kRepeats,     // see finding()
    kBrokenJson,  // the text ends before the byte that broke it
  };

  explicit AnswerText(Options options);

  // Takes the next piece. After any verdict but kGoesOn, only Release, ReleaseAll and Rewind
  // follow.
  Verdict Append(TextDelta piece);

  // What may be shown and was not yet; absent where there is nothing.
  std::optional<TextDelta> Release();
  // The same, and what is held back as well: nothing comes any more.
  std::optional<TextDelta> ReleaseAll();
  // Drops what is held back, so that another writer goes on behind what was shown.
  void Rewind();

  // Whether the shown text may go on with a given one; null where any may. Keeps a copy of what it
  // needs.
  std::function<bool(std::string_view)> Grammar() const;

  // At the end: whether the text is what was asked for (JSON where that was).
  bool whole() const;

  const std::string& text() const { return text_; }
  size_t shown() const { return n_shown_; }
  size_t held() const { return text_.size() - n_shown_; }
  const Finding& finding() const { return finding_; }

 private:
  bool CutAtStop(size_t from);
  size_t PartialStop() const;
  size_t FirstHeld() const;
  bool json_applies() const { return options_.json && !(calls_ && calls_->any()); }
  std::optional<TextDelta> ShowUpTo(size_t end);
  // Log probabilities of text that ends at `end`.
  struct Logprobs {
    size_t end = 0;
    std::vector<TokenLogprob> tokens;
  };

  const Options options_;
  size_t longest_stop_ = 0;
  std::string text_;
  size_t n_shown_ = 0;
  std::deque<Logprobs> logprobs_;       // of text that was not shown
  std::unique_ptr<Detector> detector_;  // null: off
  std::optional<JsonState> json_;       // present where JSON was asked for
  std::optional<ToolCallHold> calls_;   // present where calls may be in the text
  Finding finding_;
};

}  // namespace tandem::gateway::relay
