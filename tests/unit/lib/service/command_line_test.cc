#include "lib/service/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "lib/service/cluster_layout.h"
#include "lib/service/cluster_settings.h"
#include "lib/service/command_pages.h"
#include "lib/service/config_file.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A program with the gateway's settings under `serve`, and a tree of commands beside it.
class CommandLineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "tandem-config-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    Command serve{.name = "serve", .summary = "serves"};
    AddGatewayFlags(&serve.flags, &settings_);
    serve.flags.Section("This process", FlagScope::kProcess);
    serve.flags.Text("name", &name_, "its name");
    serve.flags.Section("This command", FlagScope::kCommandLine);
    serve.flags.Switch("once", &once_, "only once");
    serve.reads_config = true;
    serve.run = [this] {
      ran_ = "serve";
      return 7;
    };
    Command deep{.name = "deep", .summary = "is deep"};
    deep.word = "text";
    deep.flags.Text("text", &name_, "a text");
    deep.run = [this] {
      ran_ = "deep";
      return 0;
    };
    Command group{.name = "group", .summary = "has commands"};
    group.commands = {deep};
    program_.name = "program";
    program_.summary = "is a test";
    program_.commands = {serve, group};
  }
  void TearDown() override {
    for (const std::string& variable : variables_) ::unsetenv(variable.c_str());
    std::filesystem::remove_all(folder_);
  }
  void SetVariable(const std::string& name, const std::string& value) {
    ::setenv(name.c_str(), value.c_str(), 1);
    variables_.push_back(name);
  }
  std::string Write(const std::string& text) {
    std::ofstream(folder_ + "/c.yaml") << text;
    return folder_ + "/c.yaml";
  }
  // What is printed on standard error; empty: it ran.
  std::string Run(const std::vector<std::string>& arguments) {
    testing::internal::CaptureStderr();
    ran_ = "";
    RunCommandLine(&program_, arguments);
    return testing::internal::GetCapturedStderr();
  }

  std::string folder_;
  GatewaySettings settings_;
  std::string name_;
  bool once_ = false;
  std::string ran_;
  Command program_;
  std::vector<std::string> variables_;
};

TEST_F(CommandLineTest, TheCommandLineWinsOverTheEnvironmentAndThatOverTheFile) {
  const std::string file = Write("queue: 1\ncontext: 10\nmax_sequences: 100\n");
  SetVariable("TANDEM_CONTEXT", "20");
  SetVariable("TANDEM_MAX_SEQUENCES", "200");
  SetVariable("TANDEM_PLAN", "");
  EXPECT_EQ(Run({"serve", "--config", file, "--max_sequences=300"}), "");
  EXPECT_EQ(ran_, "serve");
  EXPECT_EQ(settings_.queue, 1);
  EXPECT_EQ(settings_.context, 20);
  EXPECT_EQ(settings_.max_sequences, 300);
  const FlagList& flags = program_.commands[0].flags;
  EXPECT_EQ(flags.Find("queue")->source, file + ":1");
  EXPECT_EQ(flags.Find("context")->source, "TANDEM_CONTEXT");
  EXPECT_EQ(flags.Find("max_sequences")->source, "--max_sequences");
  EXPECT_EQ(flags.Find("plan")->source, "") << "an empty variable does not count";
}

TEST_F(CommandLineTest, OnlyFlagsMeansOnlyFlags) {
  SetVariable("TANDEM_CONFIG", "/no/such/file");
  SetVariable("TANDEM_QUEUE", "nonsense");
  EXPECT_EQ(Run({"serve", "--only_flags", "--context=5"}), "");
  EXPECT_EQ(settings_.context, 5);
  EXPECT_THAT(Run({"serve"}),
              HasSubstr("TANDEM_CONFIG: '/no/such/file' cannot be read: No such file"));
  SetVariable("TANDEM_CONFIG", "");
  EXPECT_THAT(Run({"serve"}), HasSubstr("TANDEM_QUEUE: expected a whole number"));
}

TEST_F(CommandLineTest, WhereAFlagMayBeGivenFollowsItsScope) {
  SetVariable("TANDEM_NAME", "n");
  SetVariable("TANDEM_ONCE", "true");
  EXPECT_EQ(Run({"serve"}), "");
  EXPECT_EQ(name_, "n");
  EXPECT_FALSE(once_);
  EXPECT_THAT(Run({"serve", "--config", Write("name: n\n")}), HasSubstr("c.yaml:1: unknown key"));
}

// Each process reads the one file: what is for others is known, what is for nobody is not.
TEST_F(CommandLineTest, TheFileMustBeGoodAsAWhole) {
  EXPECT_EQ(Run({"serve", "--config", Write("quant: int8\nqueue: 3\n")}), "");
  EXPECT_EQ(settings_.queue, 3);
  EXPECT_THAT(Run({"serve", "--config", Write("quant: int3\n")}),
              HasSubstr("c.yaml:1: 'quant': expected one of"));
  EXPECT_THAT(Run({"serve", "--config", Write("\nqeue: 3\n")}),
              HasSubstr("c.yaml:2: unknown key 'qeue'; did you mean 'queue'?"));
}

TEST_F(CommandLineTest, CommandsInCommandsAndWhatIsNotOne) {
  EXPECT_EQ(Run({"group", "deep", "word"}), "");
  EXPECT_EQ(ran_, "deep");
  EXPECT_EQ(name_, "word");
  EXPECT_EQ(Run({}),
            "program: error: expected a command, found none (program --help lists them)\n");
  EXPECT_EQ(Run({"group"}),
            "program: error: expected a command, found none (program group --help lists them)\n");
  EXPECT_THAT(Run({"group", "dep"}),
              HasSubstr("unknown command 'dep'; did you mean 'deep'? (program group --help"));
  EXPECT_THAT(Run({"group", "deep", "a", "b"}), HasSubstr("unexpected argument 'b'"));
  EXPECT_THAT(Run({"--queue=3", "serve"}), HasSubstr("--queue: unknown flag (program --help"));
  EXPECT_THAT(Run({"serve", "--queu=3"}),
              HasSubstr("--queu: unknown flag; did you mean --queue? (program serve --help"));
  EXPECT_THAT(Run({"serve", "--queue"}), HasSubstr("--queue: expected a value, found none"));
}

TEST_F(CommandLineTest, HelpAndManualShowEveryFlagWithChoicesAndDefault) {
  const Command& serve = program_.commands[0];
  const std::string help = HelpText(serve, "program serve");
  const std::string page = ManualPage(serve, "program serve");
  for (const Flag& flag : serve.flags.flags()) {
    EXPECT_THAT(help, HasSubstr("--" + flag.name));
    EXPECT_THAT(page, HasSubstr("\\fB\\-\\-" + flag.name));
  }
  EXPECT_THAT(help, HasSubstr("--kv_type=float32|float16|int8"));
  EXPECT_THAT(help, HasSubstr("(default: float16)"));
  EXPECT_THAT(page, HasSubstr(".SH NAME\nprogram\\-serve \\- serves\n"));
  testing::internal::CaptureStdout();
  EXPECT_EQ(RunCommandLine(&program_, {"serve", "--queue=5", "--help"}), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), help);
  EXPECT_EQ(ran_, "");
  EXPECT_THAT(HelpText(program_, "program"), HasSubstr("  group    "));
}

class ConfigFileTest : public ::testing::Test {
 protected:
  // What is wrong with a text, or with its entries.
  std::vector<std::string> ProblemsOf(const std::string& text) {
    settings_ = ClusterSettings();
    FlagList known;
    AddClusterFlags(&known, &settings_);
    const absl::StatusOr<ConfigFile> file = ParseConfigFile(text, "f", &known);
    if (!file.ok()) return {std::string(file.status().message())};
    return file->problems;
  }
  ClusterSettings settings_;
};

TEST_F(ConfigFileTest, YamlAndJsonAreRead) {
  EXPECT_THAT(ProblemsOf("# a comment\nmodel: m.gguf\ngpu: 0\nkv_memory: 2GiB\ncontext: 4096\n"
                         "edge_kinds: [inline, dma-buf]\nallowed_hosts: 'a,b'\nlog_level: \"off\"\n"
                         "recovery_timeout: 90s\n"),
              IsEmpty());
  EXPECT_EQ(settings_.loader.model, "m.gguf");
  EXPECT_EQ(settings_.devices.gpu, "0");
  EXPECT_EQ(settings_.gateway.kv_memory, 2ull << 30);
  EXPECT_EQ(settings_.gateway.context, 4096);
  EXPECT_THAT(settings_.gateway.allowed_hosts, ElementsAre("a", "b"));
  EXPECT_THAT(settings_.gateway.edge_kinds, ElementsAre(HandleKind::kInline, HandleKind::kDmaBuf));
  EXPECT_EQ(settings_.log.level, LogLevel::kOff);
  EXPECT_EQ(settings_.gateway.recovery_timeout, absl::Seconds(90));
  EXPECT_THAT(ProblemsOf(R"({"model": "m", "kv_memory": 123456789012})"), IsEmpty());
  EXPECT_EQ(settings_.gateway.kv_memory, 123456789012u);
  EXPECT_THAT(ProblemsOf(""), IsEmpty());
  EXPECT_THAT(ProblemsOf("# nothing\n"), IsEmpty());
}

TEST_F(ConfigFileTest, EverythingThatIsWrongIsNamedWithItsLine) {
  EXPECT_THAT(
      ProblemsOf("contxt: 4096\n"
                 "context: '4096'\n"
                 "plan: [x]\n"
                 "queue: 0\n"
                 "listen: x\n"
                 "kv_type: off\n"
                 "http:\n"
                 "context: 1\n"
                 "context: 2\n"
                 "quant: {a: b}\n"
                 "edge_kinds: []\n"
                 "allowed_hosts: ['a,b']\n"
                 "? [a]\n"
                 ": b\n"),
      ElementsAre("f:1: unknown key 'contxt'; did you mean 'context'?",
                  "f:2: 'context': expected a number, found the text '4096'",
                  "f:3: 'plan': expected a single value, found a list",
                  "f:4: 'queue': expected a whole number from 1 to 1048576, found '0'",
                  "f:5: unknown key 'listen'",
                  "f:6: 'kv_type': expected a text, found off, which needs quotes to be one",
                  "f:7: 'http': expected a single value, found nothing",
                  "f:8: 'context' stands here a second time",
                  "f:9: 'context' stands here a second time",
                  "f:10: 'quant': expected a single value, found a mapping",
                  "f:11: 'edge_kinds': expected a list of texts, found an empty one",
                  "f:12: 'allowed_hosts': expected texts without commas in the list, found 'a,b'",
                  "f:13: expected the name of a setting, found a list"));
}

TEST_F(ConfigFileTest, WhatIsNoMappingIsRefusedAsAWhole) {
  EXPECT_THAT(ProblemsOf("a: [\n"), ElementsAre(HasSubstr("f:2: expected YAML: ")));
  EXPECT_THAT(ProblemsOf("[]"), ElementsAre(HasSubstr("expected a mapping with the names of")));
  EXPECT_THAT(ProblemsOf("text"), ElementsAre(HasSubstr("found a single value")));
  EXPECT_THAT(ProblemsOf("a: 1\n---\nb: 2\n"), ElementsAre(HasSubstr("found more behind it")));
  // What yaml-cpp's parser never gets past.
  EXPECT_THAT(ProblemsOf(", a: {}"), ElementsAre(HasSubstr("found more behind it")));
  EXPECT_THAT(ProblemsOf(std::string(2 << 20, 'x')), ElementsAre(HasSubstr("expected at most")));
  // Each level doubles: as text it would not fit into any memory.
  std::string laughs = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 100; ++i)
    laughs += Cat("a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n");
  EXPECT_THAT(ProblemsOf(laughs), ::testing::SizeIs(100));
  EXPECT_THAT(ProblemsOf("model: " + std::string(1 << 19, '[')), ::testing::SizeIs(1));
}

// What the parser takes for the end of the file among them.
TEST_F(ConfigFileTest, ControlCharactersAreRefused) {
  for (const char c : {'\0', '\x04', '\x1b', '\x7f'}) {
    const std::string text = std::string("queue: 1\n") + c + "\ncontxt: 5\n";
    EXPECT_THAT(ProblemsOf(text),
                ElementsAre("f:2: expected UTF-8 text, found a control character"))
        << static_cast<int>(c);
  }
  // UTF-16 is no UTF-8.
  EXPECT_THAT(ProblemsOf(std::string("\xff\xfeq\0u\0", 6)),
              ElementsAre(HasSubstr("f:1: expected")));
  EXPECT_THAT(ProblemsOf("queue: 1\r\nmodel: \"\u00fc b\"\t# \u20ac\r\n"), IsEmpty());
}

// Of every setting: what can be no value of it is said with its name and line, once.
TEST_F(ConfigFileTest, EverySettingRefusesWhatItIsNot) {
  FlagList known;
  AddClusterFlags(&known, &settings_);
  std::vector<std::string> names;
  for (const Flag& flag : known.flags()) names.push_back(flag.name);
  ASSERT_GT(names.size(), 40u);
  for (const std::string& name : names) {
    for (const char* wrong :
         {"{a: b}", "", "~", "[[a]]", "[]", "''", "\"\\0\"", "99999999999999999999", "-1e999",
          ".nan", "maybe", "? b", "&a [*a]", "!!binary gICA"}) {
      const std::vector<std::string> problems = ProblemsOf(Cat("\n", name, ": ", wrong, "\n"));
      // What is a text to one may be a number to another.
      const bool may_be_text =
          std::string_view(wrong).find_first_of("[{~?*") == std::string::npos && *wrong != '\0' &&
          wrong != std::string_view("''") && wrong != std::string_view("\"\\0\"");
      if (may_be_text && problems.empty()) continue;
      ASSERT_THAT(problems, ::testing::SizeIs(1)) << name << ": " << wrong;
      EXPECT_THAT(problems[0], ::testing::StartsWith("f:")) << name << ": " << wrong;
    }
  }
}

TEST_F(CommandLineTest, FilesThatAreNone) {
  EXPECT_THAT(Run({"serve", "--config", folder_}), HasSubstr("cannot be read: Is a directory"));
  EXPECT_THAT(Run({"serve", "--config", "/dev/zero"}), HasSubstr("expected at most"));
  EXPECT_THAT(Run({"serve", "--config", Write(std::string(2 << 20, '\n'))}),
              HasSubstr("expected at most"));
}

TEST(ClusterLayoutTest, ProcessesMeetInOneFolder) {
  const auto workers = WorkersOf({.npu = "cpu", .gpu = "auto,llvmpipe"});
  ASSERT_TRUE(workers.ok()) << workers.status();
  EXPECT_THAT(*workers, ElementsAre(WorkerSpec{"npu0", WorkerRole::kNpu, "cpu"},
                                    WorkerSpec{"gpu0", WorkerRole::kGpu, "auto"},
                                    WorkerSpec{"gpu1", WorkerRole::kGpu, "llvmpipe"}));
  const RunFolder folder{"/run/tandem"};
  EXPECT_EQ(folder.Address("gpu0"), "unix:/run/tandem/gpu0.sock");
  EXPECT_EQ(folder.DescriptorSocket("gpu0"), "/run/tandem/gpu0.fd.sock");
  EXPECT_EQ(folder.RegionSocket(), "/run/tandem/regions.sock");
}

}  // namespace
}  // namespace tandem
