// A PostgreSQL of a test's own: made in a temporary directory, reached through a Unix socket only,
// without any care for what a crash of the machine would do to it. Ends with its object, or with
// the process.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

namespace tandem::store {

class PostgresServerProcess {
 public:
  // Null where no PostgreSQL is installed (below /usr/lib/postgresql, as Debian does). What fails
  // otherwise fails the test. Where this process is root, which PostgreSQL refuses to be, the
  // server runs as the user postgres. Cost: about two seconds.
  static std::unique_ptr<PostgresServerProcess> Start();
  ~PostgresServerProcess();
  PostgresServerProcess(const PostgresServerProcess&) = delete;
  PostgresServerProcess& operator=(const PostgresServerProcess&) = delete;

  // Of the database that is there from the beginning, with a schema of this name in front.
  std::string Url(const std::string& schema) const;

  // Ends every connection at once, as a crash would; Run starts it again with all that was
  // committed. A server that runs is stopped first.
  void Stop();
  void Run();

 private:
  PostgresServerProcess(std::filesystem::path programs, std::filesystem::path directory);
  pid_t Spawn(const std::filesystem::path& program, const std::vector<std::string>& arguments,
              int output) const;

  const std::filesystem::path programs_;
  const std::filesystem::path directory_;
  pid_t server_ = 0;
};

}  // namespace tandem::store
