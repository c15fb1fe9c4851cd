// The common chunk of a stream read in one pass, without a tree: most chunks are a piece of text
// and nothing else, and there is one for each token.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace tandem::gateway::upstream {

// Thread: one.
class ChunkScanner {
 public:
  ChunkScanner();
  ~ChunkScanner();

  struct Plain {
    std::string_view content;  // valid until the next Scan, and no longer than the scanned text
    bool thought = false;      // there is text in reasoning_content or reasoning
  };
  // Null for whatever is not a chunk.completion.chunk with at most content and thoughts in its
  // first and only choice: an error, usage, function calls, log probabilities, a finish_reason,
  // another shape, not JSON. Those are few, and a tree is made of them.
  const Plain* Scan(std::string_view text);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace tandem::gateway::upstream
