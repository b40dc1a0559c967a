"""grpcio against a running gateway: grpc_client.py ADDRESS PROTO_FOLDER [API_KEY]. The stubs are generated here and now."""
import pathlib
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

address, protos = sys.argv[1:3]
metadata = [("authorization", f"Bearer {sys.argv[3]}")] if len(sys.argv) > 3 else []
generated = tempfile.TemporaryDirectory()
code = protoc.main(["protoc", f"-I{protos}", f"--python_out={generated.name}", f"--grpc_python_out={generated.name}",
                    str(pathlib.Path(protos) / "tandem/v1/inference.proto")])
assert code == 0, "protoc failed"
sys.path.insert(0, generated.name)
from tandem.v1 import inference_pb2 as pb  # noqa: E402
from tandem.v1 import inference_pb2_grpc  # noqa: E402

channel = grpc.insecure_channel(address)
grpc.channel_ready_future(channel).result(timeout=60)
stub = inference_pb2_grpc.InferenceStub(channel)
DEADLINE = 240


def generate(request, **options):
    return list(stub.Generate(request, metadata=metadata, timeout=DEADLINE, **options))


def text_of(responses):
    return "".join(r.text for r in responses)


def expect(code, request):
    try:
        generate(request)
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()}: {error.details()}"
        return error.details()
    raise AssertionError(f"expected {code}")


model = stub.GetModel(pb.GetServedModelRequest(), metadata=metadata, timeout=DEADLINE)
assert model.id and model.context_tokens > 0 and model.vocab_size > 0, model
status = stub.GetStatus(pb.GetStatusRequest(), metadata=metadata, timeout=DEADLINE)
assert status.state == "ready" and status.workers and status.stages, status

ids = stub.Tokenize(pb.TokenizeRequest(text="Hello there", add_bos=True), metadata=metadata, timeout=DEADLINE).ids
back = stub.Detokenize(pb.DetokenizeRequest(ids=ids), metadata=metadata, timeout=DEADLINE).text
assert back == b"Hello there", back

request = pb.GenerateRequest(chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Hello")]),
                             max_tokens=8, temperature=0, seed=1, logprobs=2)
answer = generate(request)
last = answer[-1]
assert last.finish_reason in ("stop", "length") and not any(r.finish_reason for r in answer[:-1])
tokens = [t for r in answer for t in r.tokens]
assert len(tokens) == last.usage.completion_tokens <= 8
assert all(len(l.top) == 2 and l.has_logprob for r in answer for l in r.logprobs)
assert text_of(generate(request)) == text_of(answer)

scored = generate(pb.GenerateRequest(tokens=pb.TokenPrompt(ids=ids), max_tokens=1, echo=True, logprobs=0, temperature=0))
entries = [l for r in scored for l in r.logprobs]
assert [e.token for e in entries][: len(ids)] == list(ids)
assert not entries[0].has_logprob and all(e.has_logprob and e.logprob <= 0 for e in entries[1:])
assert text_of(scored).startswith("Hello there")

invalid = grpc.StatusCode.INVALID_ARGUMENT
assert "prompt" in expect(invalid, pb.GenerateRequest())
assert "stop" in expect(invalid, pb.GenerateRequest(text="a", stop=["1", "2", "3", "4", "5"]))
assert "context" in expect(invalid, pb.GenerateRequest(text="a", max_tokens=model.context_tokens))
expect(grpc.StatusCode.NOT_FOUND, pb.GenerateRequest(text="a", model="no-such-model"))

# Cancelling frees the place; the next request works.
call = stub.Generate(pb.GenerateRequest(text="a", ignore_eos=True), metadata=metadata, timeout=DEADLINE)
next(call)
call.cancel()
assert generate(pb.GenerateRequest(text="a", max_tokens=1))[-1].usage.completion_tokens <= 1
# Health as a client finds it that knows nothing but reflection.
pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
health = pool.FindServiceByName("grpc.health.v1.Health").FindMethodByName("Check")
question, reply = (message_factory.GetMessageClass(kind) for kind in (health.input_type, health.output_type))
check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=question.SerializeToString, response_deserializer=reply.FromString)
for service in ("", "tandem.v1.Inference"):
    assert check(question(service=service), timeout=DEADLINE).status == 1, service
assert {"tandem.v1.Inference", "grpc.health.v1.Health"} <= set(ProtoReflectionDescriptorDatabase(channel).get_services())
print(f"grpcio {grpc.__version__}: passed")
