// What is wrong with a configuration: collected, so that one run reports all of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "app/configuration.h"
#include "app/configuration_document.h"
#include "base/error.h"

namespace tandem::app {

class ConfigurationIssues {
 public:
  // `where` is the file's name or the flag.
  void Add(std::string_view where, DocumentPosition at, std::string_view path,
           std::string_view message);
  // At the origin of this path, or of the nearest table around it.
  void AddAt(const Configuration& configuration, std::string_view path, std::string_view message);

  bool empty() const { return issues_.empty(); }
  // Enough for one reading; the rest is not looked for.
  bool full() const { return issues_.size() >= kMaxIssues; }
  // Every issue on its line, in the order of the text. Nothing is wrong: no error.
  Status ToStatus() const;

 private:
  static constexpr size_t kMaxIssues = 50;
  struct Issue {
    std::string where;
    DocumentPosition at;
    std::string path;
    std::string message;
  };
  std::vector<Issue> issues_;
};

// A quoted piece of untrusted text for a message: short, one line, valid UTF-8.
std::string Quoted(std::string_view text);

// "; did you mean 'listen'?", or nothing where no name is near.
std::string Suggestion(std::string_view unknown, const std::vector<std::string_view>& known);

}  // namespace tandem::app
