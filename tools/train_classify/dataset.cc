#include "train_classify/dataset.h"

#include <fstream>
#include <iterator>
#include <random>
#include <utility>

#include <boost/json.hpp>

namespace tandem::train_classify {
namespace {

namespace json = boost::json;

Result<std::string> Text(const json::object& line, std::string_view key) {
  const json::value* value = line.if_contains(key);
  if (value == nullptr || !value->is_string()) {
    return Err(ErrorCode::kCorrupt, "'{}' is missing or no text", key);
  }
  return std::string(value->get_string());
}

bool Flag(const json::object& line, std::string_view key) {
  const json::value* value = line.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

Result<Example> ParseLine(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return Err(ErrorCode::kCorrupt, "no JSON object");
  const json::object& line = value.get_object();
  Example example;
  TANDEM_ASSIGN_OR_RETURN(example.text, Text(line, "text"));
  TANDEM_ASSIGN_OR_RETURN(const std::string name, Text(line, "class"));
  TANDEM_ASSIGN_OR_RETURN(example.task, gateway::ParseTaskClass(name));
  TANDEM_ASSIGN_OR_RETURN(example.language, Text(line, "language"));
  TANDEM_ASSIGN_OR_RETURN(example.family, Text(line, "family"));
  if (line.contains("context")) {
    TANDEM_ASSIGN_OR_RETURN(example.context, Text(line, "context"));
  }
  example.complex_reasoning = Flag(line, "complex");
  example.adversarial = Flag(line, "adversarial");
  return example;
}

// Calls `parse` for each line; an error that it gives names the file and the line.
template <typename Parse>
Status ForEachLine(std::string_view jsonl, std::string_view name, const Parse& parse) {
  for (size_t number = 1; !jsonl.empty(); ++number) {
    const std::string_view line = jsonl.substr(0, jsonl.find('\n'));
    jsonl.remove_prefix(std::min(line.size() + 1, jsonl.size()));
    if (line.empty()) continue;
    if (Status status = parse(line); !status) {
      return Wrap(std::move(status).error(), fmt::format("{}:{}", name, number));
    }
  }
  return {};
}

Result<std::string> ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Err(ErrorCode::kNotFound,
               "cannot open {}; run from the source tree's root, or name the file", path);
  }
  return std::string{std::istreambuf_iterator<char>(file), {}};
}

struct WordList {
  TaskClass task = TaskClass::kGeneralConversation;
  std::string language;
  std::vector<std::string> words;
};

Result<WordList> ParseWords(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return Err(ErrorCode::kCorrupt, "no JSON object");
  const json::object& line = value.get_object();
  WordList list;
  TANDEM_ASSIGN_OR_RETURN(const std::string name, Text(line, "class"));
  TANDEM_ASSIGN_OR_RETURN(list.task, gateway::ParseTaskClass(name));
  TANDEM_ASSIGN_OR_RETURN(list.language, Text(line, "language"));
  const json::value* words = line.if_contains("words");
  if (words == nullptr || !words->is_array()) {
    return Err(ErrorCode::kCorrupt, "'words' is missing or no list");
  }
  for (const json::value& word : words->get_array()) {
    if (!word.is_string()) return Err(ErrorCode::kCorrupt, "a word is no text");
    list.words.emplace_back(word.get_string());
  }
  return list;
}

}  // namespace

Result<Dataset> ParseDataset(std::string_view jsonl, std::string_view name) {
  Dataset dataset{.digest = gateway::Fnv1a(jsonl)};
  TANDEM_RETURN_IF_ERROR(ForEachLine(jsonl, name, [&](std::string_view line) -> Status {
    TANDEM_ASSIGN_OR_RETURN(Example example, ParseLine(line));
    dataset.examples.push_back(std::move(example));
    return {};
  }));
  return dataset;
}

Result<Dataset> ReadDataset(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadAll(path));
  return ParseDataset(text, path);
}

Status AddParsedWords(std::string_view jsonl, std::string_view name, int rounds, Dataset* dataset) {
  constexpr uint64_t kLongest = 3;  // words a prompt
  std::mt19937_64 generator(1);
  dataset->digest = gateway::Fnv1a(jsonl, dataset->digest);
  return ForEachLine(jsonl, name, [&](std::string_view line) -> Status {
    TANDEM_ASSIGN_OR_RETURN(WordList list, ParseWords(line));
    for (int round = 0; round < rounds; ++round) {
      for (size_t i = list.words.size(); i > 1; --i) {
        std::swap(list.words[i - 1], list.words[generator() % i]);
      }
      for (size_t i = 0; i < list.words.size();) {
        Example example{.task = list.task, .language = list.language, .family = "words"};
        for (uint64_t n = 1 + generator() % kLongest; n > 0 && i < list.words.size(); --n) {
          if (!example.text.empty()) example.text += ' ';
          example.text += list.words[i++];
        }
        dataset->examples.push_back(std::move(example));
      }
    }
    return {};
  });
}

Status AddWords(const std::string& path, int rounds, Dataset* dataset) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadAll(path));
  return AddParsedWords(text, path, rounds, dataset);
}

bool ListsWords(const Example& example) {
  return example.family == "words" || example.family.starts_with("vocabulary/");
}

}  // namespace tandem::train_classify
