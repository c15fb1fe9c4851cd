// Which placeholder stands for which secret.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include "gateway/privacy/secret.h"

namespace tandem::gateway::privacy {

// Of one request. Placeholders look like "[EMAIL_1]": models know that form from templates and
// repeat it as it is, and it survives JSON, Markdown and source code. They count from 1 for each
// kind in the order in which secrets appear, so a conversation that grows keeps those it had (and
// the upstream's prefix cache its use). A text that looks like a placeholder already is a secret
// like any other: it gets one of ours, so that what stands in the outgoing text was always made
// here. Thread: one while it is filled; any once it is const.
class RedactionMap {
 public:
  // The same bytes of the same kind always have the same placeholder; other bytes another one.
  const std::string& PlaceholderOf(SecretKind kind, std::string_view secret);

  // Null where nothing has that placeholder.
  const std::string* SecretOf(std::string_view placeholder) const;

  // Whether a placeholder begins with `text` or is it.
  bool IsPrefix(std::string_view text) const;

  // The longest end of `text`, of at least `min_bytes`, with which a secret begins that goes on
  // behind it; empty where there is none.
  std::string_view BegunSecret(std::string_view text, size_t min_bytes) const;

  size_t size() const { return by_placeholder_.size(); }
  bool empty() const { return by_placeholder_.empty(); }
  const std::map<std::string, std::string, std::less<>>& by_placeholder() const {
    return by_placeholder_;
  }

 private:
  // Secret -> placeholder; the secret has its kind's number in front.
  std::unordered_map<std::string, std::string> by_secret_;
  std::map<std::string, std::string, std::less<>> by_placeholder_;
  std::set<std::string, std::less<>> secrets_;  // ordered, for BegunSecret
  std::array<size_t, kSecretLabels.size()> counts_{};
  size_t longest_ = 0;  // secret, in bytes
};

}  // namespace tandem::gateway::privacy
