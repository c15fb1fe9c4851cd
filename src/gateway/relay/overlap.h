// What a model that was asked to go on with an answer says again of it.
//
// A model without a prefix mode answers "continue" with a message of its own. Some begin behind the
// last byte; most take a run-up: the cut word again, the last words, the last sentence, or the
// whole answer from its beginning. The prompt (continuation.h) asks for the last words, so that the
// join is where it should be, in the middle of a word too. Introductions ("Continuing:") and
// quotation marks are kept out by the prompt, not here: they could be the answer.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::gateway::relay {

// The last words of `said`: what a prompted continuation is asked to begin with. At most 6 words
// and 64 bytes, whole code points.
std::string_view AnchorOf(std::string_view said);

// Passes on what is new. Thread: one.
//
// The continuation repeats what it has in common with a stretch of `said` that reaches to its very
// end; the longest such stretch counts. A stretch of a few letters is chance, so it must be the
// whole answer, the anchor, the last sentence or line, the last word (of four letters or more,
// where the continuation does not begin with a space), or 12 bytes. Where the text has a grammar,
// what fits decides. Holds back only while the continuation could still turn out to be such a
// stretch, so never more than `said` is long.
class OverlapFilter {
 public:
  struct Options {
    // Comes between the two where nothing is repeated and the continuation does not begin with
    // white space, in a script with spaces: " " where the word at the end of `said` is known to be
    // whole, else empty.
    std::string separator;
    // Whether the answer so far and this text could be the beginning of a right answer; null: any.
    std::function<bool(std::string_view)> fits;
  };
  OverlapFilter(std::string_view said, Options options);

  // Appends to `out` what of the continuation is new. False: it began the answer again and then
  // went on with other words, so nothing can be joined; nothing more is appended.
  bool Push(std::string_view text, std::string* out);
  // The continuation has ended: appends what was held back and is new.
  void Finish(std::string* out);

  bool decided() const { return decided_; }

 private:
  // An answer begun again that agrees for so long is no accident.
  static constexpr size_t kRestartBytes = 48;
  static constexpr size_t kMinOverlapBytes = 12;
  static constexpr size_t kMinWordBytes = 4;
  static constexpr size_t kMinSentenceBytes = 2;
  // Where a repeated stretch may begin: this much before the end, or at the very beginning.
  static constexpr size_t kWindowBytes = 2048;

  void FindStarts(char first);
  bool Accepts(size_t start) const;
  bool Decide(std::string* out);
  std::string_view Without(size_t overlap) const;

  const std::string said_;
  const Options options_;
  size_t anchor_ = 0;    // offsets in said_: of the last words,
  size_t sentence_ = 0;  // and of the last sentence or line
  bool decided_ = false;
  bool restarted_ = false;
  std::string held_;     // the continuation so far
  size_t n_spaces_ = 0;  // at its beginning: no part of a repeated stretch
  // Offsets in said_ from which the continuation has agreed so far, ascending.
  std::vector<size_t> starts_;
  size_t n_agreed_ = 0;
  size_t overlap_ = 0;         // the longest stretch that reached the end of said_
  size_t chance_overlap_ = 0;  // the same of those that are too short to be taken for one
  size_t n_restarted_ = 0;     // how far the beginning of said_ agreed
};

}  // namespace tandem::gateway::relay
