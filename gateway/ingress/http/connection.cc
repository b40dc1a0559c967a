#include "gateway/ingress/http/connection.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gateway/ingress/answer/answer_plan.h"
#include "gateway/ingress/http/request_target.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
// Bodies up to this size are not counted: they fit into what a connection buffers anyway.
constexpr std::size_t kSmallBodyBytes = 64 << 10;
constexpr std::size_t kMaxPipelinedBytes = 64 << 10;
constexpr std::size_t kMaxLingerBytes = 64 << 20;
constexpr std::chrono::seconds kLingerTime{2};
constexpr int kNoContent = 204;  // has neither type nor length

std::chrono::nanoseconds Nanos(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

bool IsSyntaxError(const boost::system::error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

// The head of a reply as it stands on the wire, with the empty line. `length`: of the body; absent:
// `chunked`, or ended by closing the connection (HTTP/1.0).
std::string ReplyHead(const HttpReply& reply, const std::string& id, const HttpHeaders& more,
                      std::optional<std::size_t> length, bool chunked, bool keep_alive) {
  const auto reason =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(reply.status));
  std::string head =
      Cat("HTTP/1.1 ", reply.status, " ", std::string_view(reason.data(), reason.size()),
          "\r\nServer: tandem\r\nDate: ",
          absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()), "\r\n");
  const bool empty = reply.status == kNoContent;
  if (!empty) head.append(Cat("Content-Type: ", reply.content_type, "\r\n"));
  if (length.has_value() && !empty) head.append(Cat("Content-Length: ", *length, "\r\n"));
  if (chunked) head.append(Cat("Transfer-Encoding: chunked\r\n"));
  if (!id.empty()) head.append(Cat("X-Request-Id: ", id, "\r\n"));
  for (const auto& [name, value] : reply.headers) head.append(Cat(name, ": ", value, "\r\n"));
  for (const auto& [name, value] : more) head.append(Cat(name, ": ", value, "\r\n"));
  head.append(Cat("Connection: ", keep_alive ? "keep-alive" : "close", "\r\n\r\n"));
  return head;
}

// One chunk of a chunked body; `bytes` must not be empty (that would end the body).
std::string ChunkOf(std::string_view bytes) {
  return Cat(absl::Hex(bytes.size()), "\r\n", bytes, "\r\n");
}
constexpr std::string_view kLastChunk = "0\r\n\r\n";

// A part of the server's memory for bodies, as long as it lives.
class BodyReservation {
 public:
  BodyReservation(ConnectionOwner& owner, std::size_t bytes)
      : owner_(owner), bytes_(bytes > kSmallBodyBytes ? bytes : 0) {
    ok_ = bytes_ == 0 || owner_.ReserveBody(bytes_);
  }
  ~BodyReservation() {
    if (ok_ && bytes_ > 0) owner_.ReleaseBody(bytes_);
  }
  BodyReservation(const BodyReservation&) = delete;
  BodyReservation& operator=(const BodyReservation&) = delete;
  bool ok() const { return ok_; }

 private:
  ConnectionOwner& owner_;
  const std::size_t bytes_;
  bool ok_;
};

std::string Field(const http::fields& fields, http::field name) {
  const auto value = fields[name];
  return std::string(value.data(), value.size());
}

// Where it is not known how a body ends, its bytes would be taken for the next request: what is
// wrong with its Transfer-Encoding (RFC 9112, 6.1). The parser knows nothing but "chunked" at the
// end, and takes every other one for no body.
template <typename Message>
std::optional<std::string> WrongCoding(const Message& message) {
  if (message.count(http::field::transfer_encoding) == 0) return std::nullopt;
  const std::string coding = Field(message, http::field::transfer_encoding);
  if (absl::EqualsIgnoreCase(coding, "chunked") && message.version() >= 11) return std::nullopt;
  return Cat("Transfer-Encoding: expected chunked, in HTTP/1.1, found '", coding, "'");
}

}  // namespace

Connection::Connection(Socket socket, std::shared_ptr<asio::ssl::context> tls,
                       const HttpServerOptions& options, HttpHandler& handler,
                       ConnectionOwner& owner, std::uint64_t id, bool crowded)
    : stream_(std::move(socket), std::move(tls)),
      options_(options),
      handler_(handler),
      owner_(owner),
      id_(id),
      crowded_(crowded),
      buffer_(options.max_header_bytes + kMaxPipelinedBytes + 4096),
      news_timer_(stream_.get_executor()) {}

Connection::~Connection() { owner_.Forget(id_); }

void Connection::Enter(Phase phase) {
  activity_->phase = phase;
  activity_->since = std::chrono::steady_clock::now();
}

void Connection::Start(Pointer self) {
  const auto executor = self->stream_.get_executor();
  asio::co_spawn(
      executor, [self = std::move(self)] { return self->Run(); }, asio::detached);
}

void Connection::Drain(Pointer self) {
  const auto executor = self->stream_.get_executor();
  asio::post(executor, [self = std::move(self)] {
    self->draining_ = true;
    if (self->activity_->phase == Phase::kIdle) self->stream_.plain().cancel();
  });
}

void Connection::Cut(Pointer self, absl::Status why) {
  const auto executor = self->stream_.get_executor();
  asio::post(executor, [self = std::move(self), why = std::move(why)] {
    self->draining_ = true;
    if (self->activity_->phase == Phase::kIdle) self->stream_.plain().cancel();
    self->cut_ = why;
    self->Notify();
  });
}

void Connection::Close(Pointer self) {
  const auto executor = self->stream_.get_executor();
  asio::post(executor, [self = std::move(self)] {
    self->gone_ = true;
    self->stream_.plain().close();
    self->Notify();
  });
}

void Connection::Notify() {
  news_ = true;
  news_timer_.cancel();
}

std::function<void()> Connection::MakeWake() {
  return [weak = weak_from_this(), executor = stream_.get_executor()] {
    asio::post(executor, [weak] {
      if (const auto self = weak.lock()) self->Notify();
    });
  };
}

asio::awaitable<void> Connection::WaitForNews() {
  while (!news_) {
    news_timer_.expires_at(asio::steady_timer::time_point::max());
    co_await news_timer_.async_wait(kToken);
  }
  news_ = false;
}

// The handshake of TLS, where there is any.
asio::awaitable<bool> Connection::Greet() {
  if (!stream_.secure()) co_return true;
  Enter(Phase::kHead);
  stream_.plain().expires_after(Nanos(options_.handshake_timeout));
  co_return co_await stream_.Handshake();
}

asio::awaitable<void> Connection::Run() {
  bool more = co_await Greet();
  if (!more) gone_ = true;
  while (more && !closing()) more = co_await ServeOne();
  if (!gone_) co_await Linger();
  stream_.plain().close();
}

// The first byte of a request, which may take long to come on an idle connection.
asio::awaitable<bool> Connection::WaitForRequest() {
  if (buffer_.size() > 0) co_return true;
  Enter(Phase::kIdle);
  stream_.plain().expires_after(Nanos(crowded_ ? options_.crowded_timeout : options_.idle_timeout));
  const auto space = buffer_.prepare(4096);
  const auto [error, count] = co_await stream_.async_read_some(space, kToken);
  if (error) co_return false;
  buffer_.commit(count);
  co_return !closing();
}

asio::awaitable<bool> Connection::ServeOne() {
  if (!co_await WaitForRequest()) {
    gone_ = true;
    co_return false;
  }
  const auto begun = std::chrono::steady_clock::now();
  exchange_ = HttpExchange();
  answered_ = false;
  const bool more = co_await AnswerOne();
  if (options_.on_exchange && (exchange_.status != 0 || !exchange_.method.empty())) {
    exchange_.time = absl::FromChrono(std::chrono::steady_clock::now() - begun);
    exchange_.client_left = gone_ && !answered_;
    options_.on_exchange(exchange_);
  }
  co_return more;
}

asio::awaitable<bool> Connection::AnswerOne() {
  Parser parser;
  parser.header_limit(static_cast<std::uint32_t>(options_.max_header_bytes));
  parser.body_limit(options_.max_body_bytes);
  Enter(Phase::kHead);
  stream_.plain().expires_after(
      Nanos(crowded_ ? options_.crowded_timeout : options_.header_timeout));
  const auto [error, count] = co_await http::async_read_header(stream_, buffer_, parser, kToken);
  if (error == http::error::body_limit) co_return co_await ReplyToBadHead(413, "");
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    co_return co_await ReplyToBadHead(431, "the request's head is too long");
  }
  if (error && IsSyntaxError(error)) {
    co_return co_await ReplyToBadHead(400, "bad HTTP request: " + error.message());
  }
  if (error) {
    gone_ = true;
    co_return false;
  }
  HttpRequest head = MakeRequest(parser);
  std::optional<RequestTarget> target = ParseRequestTarget(head.target);
  if (!target.has_value())
    co_return co_await ReplyToBadHead(400, "the request's target names no host, or a user");
  head.target = std::move(target->path);
  if (target->host.has_value()) {
    head.host = *std::move(target->host);
    // Who must send the header, must send it all the same.
    if (head.version < 11 && head.host_count == 0) head.host_count = 1;
  }
  exchange_.method = head.method;
  exchange_.path = head.target.substr(0, head.target.find('?'));
  exchange_.id = head.id;
  if (const std::optional<std::string> wrong = WrongCoding(parser.get()))
    co_return co_await ReplyToBadHead(501, *wrong);
  // Of two, somebody in between may have looked at the other one.
  if (const auto keys = parser.get().count(http::field::authorization); keys > 1)
    co_return co_await ReplyToBadHead(400, Cat("expected one Authorization header, found ", keys));
  Framing framing{.http10 = parser.get().version() < 11,
                  .head_only = parser.get().method() == http::verb::head,
                  .keep_alive = parser.keep_alive() && !crowded_,
                  .headers = handler_.HeadersFor(head)};
  if (crowded_ && !handler_.Essential(head)) co_return co_await ReplyBusy("too many connections");
  if (std::optional<HttpReply> refusal = handler_.Refuse(head)) {
    // A body that nobody reads would be taken for the next request.
    framing.keep_alive = framing.keep_alive && parser.is_done();
    co_return co_await WriteReply(*std::move(refusal), framing) && framing.keep_alive;
  }
  if (!parser.is_done()) {
    co_return co_await ReceiveAndAnswer(parser, std::move(head), framing) && framing.keep_alive;
  }
  Enter(Phase::kBusy);
  const HttpResult result = handler_.Handle(std::move(head), MakeWake());
  if (result.reply.has_value()) {
    co_return co_await WriteReply(*result.reply, framing) && framing.keep_alive;
  }
  co_return co_await RunJob(*result.job, framing) && framing.keep_alive;
}

// A request with a body: read within the server's memory, and handled by one of its workers, so
// that a large one holds up nobody's reading and writing.
asio::awaitable<bool> Connection::ReceiveAndAnswer(Parser& parser, HttpRequest head,
                                                   Framing framing) {
  HttpResult result;
  {
    const auto length = parser.content_length();
    const BodyReservation reservation(
        owner_, length.has_value() ? std::min<std::size_t>(*length, options_.max_body_bytes)
                                   : options_.max_body_bytes);
    if (!reservation.ok()) co_return co_await ReplyBusy("too many large requests at a time");
    Enter(Phase::kBody);
    if (!co_await ReadBody(parser)) co_return false;
    head.body = std::move(parser.get().body());
    if (options_.keep_bodies) exchange_.body = head.body;
    Enter(Phase::kBusy);
    if (!owner_.EnterWorkers()) co_return co_await ReplyBusy("too many requests at a time");
    result = co_await asio::co_spawn(owner_.Workers(), HandleAside(std::move(head)),
                                     asio::use_awaitable);
    owner_.LeaveWorkers();
  }
  if (result.reply.has_value()) co_return co_await WriteReply(*std::move(result.reply), framing);
  co_return co_await RunJob(*result.job, framing);
}

asio::awaitable<HttpResult> Connection::HandleAside(HttpRequest request) {
  co_return handler_.Handle(std::move(request), MakeWake());
}

HttpRequest Connection::MakeRequest(Parser& parser) {
  const auto& message = parser.get();
  const auto method = message.method_string();
  const auto target = message.target();
  HttpRequest request;
  request.method = message.method() == http::verb::head ? std::string("GET")
                                                        : std::string(method.data(), method.size());
  request.target = std::string(target.data(), target.size());
  request.version = static_cast<int>(message.version());
  request.host_count = static_cast<int>(message.count(http::field::host));
  request.host = Field(message, http::field::host);
  request.origin = Field(message, http::field::origin);
  request.content_encoding = Field(message, http::field::content_encoding);
  request.authorization = Field(message, http::field::authorization);
  const auto named = [&message](const char* name) {
    const auto value = message[name];
    return std::string(value.data(), value.size());
  };
  // Anthropic's clients show their key like this.
  const std::string key = named("X-Api-Key");
  if (request.authorization.empty() && !key.empty()) request.authorization = "Bearer " + key;
  request.content_type = Field(message, http::field::content_type);
  request.cors_method = Field(message, http::field::access_control_request_method);
  request.cors_headers = Field(message, http::field::access_control_request_headers);
  request.id = RequestId(named("X-Request-Id"));
  const auto [begin, end] = message.equal_range("traceparent");
  for (auto field = begin; field != end; ++field) {
    request.traceparents.emplace_back(field->value().data(), field->value().size());
  }
  return request;
}

asio::awaitable<bool> Connection::ReadBody(Parser& parser) {
  if (absl::EqualsIgnoreCase(Field(parser.get(), http::field::expect), "100-continue")) {
    if (!co_await Write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
  }
  stream_.plain().expires_after(Nanos(options_.body_timeout));
  const auto [error, count] = co_await http::async_read(stream_, buffer_, parser, kToken);
  if (!error) co_return true;
  if (error == http::error::body_limit) co_return co_await ReplyToBadHead(413, "");
  if (IsSyntaxError(error)) {
    co_return co_await ReplyToBadHead(400, "bad HTTP request: " + error.message());
  }
  gone_ = true;
  co_return false;
}

asio::awaitable<bool> Connection::ReplyToBadHead(int status, std::string message) {
  if (status == 413) {
    message = "the body is over the limit of " + std::to_string(options_.max_body_bytes) + " bytes";
  }
  // Without a head there is no name yet.
  if (exchange_.id.empty()) exchange_.id = RandomId("req_");
  const Framing framing;
  co_await WriteReply(handler_.ErrorReply(status, message), framing);
  co_return false;
}

asio::awaitable<bool> Connection::ReplyBusy(std::string message) {
  HttpReply reply = handler_.ErrorReply(503, message);
  reply.headers.emplace_back("Retry-After", "1");
  const Framing framing;
  co_await WriteReply(std::move(reply), framing);
  co_return false;
}

asio::awaitable<bool> Connection::WriteReply(HttpReply reply, Framing framing) {
  if (draining_) framing.keep_alive = false;
  exchange_.status = reply.status;
  std::string bytes = ReplyHead(reply, exchange_.id, framing.headers, reply.body.size(),
                                /*chunked=*/false, framing.keep_alive);
  if (!framing.head_only) bytes.append(reply.body);
  co_return co_await Write(std::move(bytes));
}

asio::awaitable<bool> Connection::Write(std::string bytes) {
  const Phase before = activity_->phase;
  Enter(Phase::kWrite);
  stream_.plain().expires_after(Nanos(options_.write_timeout));
  const auto buffer = asio::buffer(bytes);
  const auto [error, count] = co_await asio::async_write(stream_, buffer, kToken);
  exchange_.reply_bytes += count;
  Enter(before);
  if (error) gone_ = true;
  co_return !error;
}

// Reads on while an answer is being made: learns that the client has left, and keeps what it
// pipelines. With a full buffer it stops looking; a failing write tells it then.
asio::awaitable<void> Connection::Watch() {
  while (watching_ && buffer_.size() < kMaxPipelinedBytes) {
    stream_.plain().expires_never();
    const auto space = buffer_.prepare(4096);
    const auto [error, count] = co_await stream_.async_read_some(space, kToken);
    buffer_.commit(count);
    if (error) {
      // The end of what a client sends is told once: Asio would wait in vain for it a second time,
      // so it counts also when it comes as the watching ends.
      if (watching_ || error != asio::error::operation_aborted) gone_ = true;
      break;
    }
  }
  watcher_running_ = false;
  Notify();
}

asio::awaitable<void> Connection::StopWatching() {
  watching_ = false;
  if (watcher_running_) stream_.plain().cancel();
  while (watcher_running_) co_await WaitForNews();
  news_ = false;
}

asio::awaitable<bool> Connection::RunJob(HttpJob& job, Framing framing) {
  watching_ = true;
  watcher_running_ = true;
  asio::co_spawn(
      stream_.get_executor(), [self = shared_from_this()] { return self->Watch(); },
      asio::detached);
  bool streaming = false;
  bool done = false;
  const bool chunked = !framing.http10;
  while (!done && !gone_) {
    if (cut_.has_value()) job.Abort(*std::exchange(cut_, std::nullopt));
    HttpJob::Progress progress = job.Poll();
    done = progress.done;
    std::string bytes;
    if (progress.head.has_value() && done) {
      progress.head->body.append(progress.bytes);
      answered_ = co_await WriteReply(*std::move(progress.head), framing);
      break;
    }
    if (progress.head.has_value()) {
      streaming = true;
      framing.keep_alive = framing.keep_alive && chunked && !draining_;
      exchange_.status = progress.head->status;
      bytes = ReplyHead(*progress.head, exchange_.id, framing.headers, std::nullopt, chunked,
                        framing.keep_alive);
      progress.bytes.insert(0, progress.head->body);
    }
    if (!progress.bytes.empty()) {
      bytes.append(chunked ? ChunkOf(progress.bytes) : progress.bytes);
    }
    if (done && streaming && chunked) bytes.append(kLastChunk);
    if (!bytes.empty()) {
      const bool written = co_await Write(std::move(bytes));
      answered_ = done && written;
    } else if (!done) {
      co_await WaitForNews();
    }
  }
  co_await StopWatching();
  co_return !gone_ && (!streaming || chunked);
}

// Lets the client read the last answer: closing while it still sends would reset the connection.
asio::awaitable<void> Connection::Linger() {
  Enter(Phase::kIdle);
  boost::system::error_code ignored;
  stream_.plain().expires_after(kLingerTime);
  if (stream_.secure()) co_await stream_.SayEnd();
  stream_.plain().socket().shutdown(asio::socket_base::shutdown_send, ignored);
  std::size_t total = 0;
  buffer_.clear();
  while (total < kMaxLingerBytes) {
    const auto space = buffer_.prepare(16384);
    const auto [error, count] = co_await stream_.plain().async_read_some(space, kToken);
    if (error) break;
    total += count;
  }
}

}  // namespace tandem
