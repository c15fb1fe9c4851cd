#include "store/testing/postgres_server.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace tandem::store {
namespace {

// The newest version that is installed; empty where there is none.
std::filesystem::path FindPrograms() {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", error)) {
    if (std::filesystem::exists(version.path() / "bin" / "initdb")) {
      found.push_back(version.path() / "bin");
    }
  }
  return found.empty() ? std::filesystem::path() : *std::ranges::max_element(found);
}

// Who runs it, where this process is root.
const passwd* OtherUser() { return ::getuid() == 0 ? ::getpwnam("postgres") : nullptr; }

// Everything that the server prints until it says that it is ready, or ends.
std::string ReadUntilReady(int fd) {
  std::string text;
  char buffer[1024];
  ssize_t n = 0;
  while (!text.contains("ready to accept connections") &&
         (n = ::read(fd, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

}  // namespace

PostgresServerProcess::PostgresServerProcess(std::filesystem::path programs,
                                             std::filesystem::path directory)
    : programs_(std::move(programs)), directory_(std::move(directory)) {}

std::unique_ptr<PostgresServerProcess> PostgresServerProcess::Start() {
  const std::filesystem::path programs = FindPrograms();
  if (programs.empty()) return nullptr;
  // Short: a socket's path has at most 107 bytes.
  std::string directory = "/tmp/tandem_pg_XXXXXX";
  EXPECT_NE(::mkdtemp(directory.data()), nullptr);
  if (const passwd* user = OtherUser()) {
    EXPECT_EQ(::chown(directory.c_str(), user->pw_uid, user->pw_gid), 0);
  }
  auto server =
      std::unique_ptr<PostgresServerProcess>(new PostgresServerProcess(programs, directory));
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  const pid_t init = server->Spawn("initdb",
                                   {"-D", directory + "/data", "-U", "tandem", "-A", "trust", "-E",
                                    "UTF8", "--locale=C", "--no-sync", "--no-instructions"},
                                   nowhere);
  ::close(nowhere);
  int status = -1;
  EXPECT_EQ(::waitpid(init, &status, 0), init);
  EXPECT_EQ(status, 0) << "initdb failed";
  server->Run();
  return server;
}

PostgresServerProcess::~PostgresServerProcess() {
  Stop();
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
}

pid_t PostgresServerProcess::Spawn(const std::filesystem::path& program,
                                   const std::vector<std::string>& arguments, int output) const {
  const std::string path = (programs_ / program).string();
  std::vector<char*> argv{const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const passwd* const user = OtherUser();
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  // Only what is safe between fork and exec.
  ::dup2(output, 1);
  ::dup2(output, 2);
  if (user != nullptr && (::setgroups(0, nullptr) != 0 || ::setgid(user->pw_gid) != 0 ||
                          ::setuid(user->pw_uid) != 0)) {
    ::_exit(126);
  }
  if (::chdir("/") != 0) ::_exit(126);
  // After setuid, which clears it. A test that crashes leaves no server behind.
  ::prctl(PR_SET_PDEATHSIG, SIGQUIT);
  if (::getppid() != parent) ::_exit(126);
  ::execv(path.c_str(), argv.data());
  ::_exit(127);
}

void PostgresServerProcess::Run() {
  Stop();
  int output[2];
  ASSERT_EQ(::pipe2(output, O_CLOEXEC), 0);
  const std::string directory = directory_.string();
  server_ = Spawn("postgres",
                  {"-D",
                   directory + "/data",
                   "-k",
                   directory,
                   "-h",
                   "",
                   "-F",
                   "-c",
                   "full_page_writes=off",
                   "-c",
                   "max_connections=50",
                   "-c",
                   "shared_buffers=16MB",
                   "-c",
                   "log_statement=none",
                   "-c",
                   "log_min_messages=log",
                   "-c",
                   "log_checkpoints=off",
                   "-c",
                   "autovacuum=off"},
                  output[1]);
  ::close(output[1]);
  const std::string said = ReadUntilReady(output[0]);
  EXPECT_TRUE(said.contains("ready to accept connections")) << said;
  // The server goes on writing there: what nobody reads must not stop it.
  ::close(output[0]);
}

void PostgresServerProcess::Stop() {
  if (server_ == 0) return;
  ::kill(server_, SIGQUIT);
  int status = 0;
  EXPECT_EQ(::waitpid(server_, &status, 0), server_);
  server_ = 0;
}

std::string PostgresServerProcess::Url(const std::string& schema) const {
  return fmt::format("postgresql://tandem@/postgres?host={}&options=-csearch_path%3D{}",
                     directory_.string(), schema);
}

}  // namespace tandem::store
