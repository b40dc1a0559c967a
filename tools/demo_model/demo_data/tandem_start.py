"""What Tandem is: its processes, plans and edges, how to start it, weight formats. See tandem.py."""


def term(name, *more, tandem=True):
    """The ways to ask what a thing is."""
    tail = "[|| in Tandem]" if tandem else ""
    return [
        f"[What is|What's|What exactly is] {name}{tail}?",
        f"[Explain|Describe|Define] {name}{tail}.",
        f"[Tell me about|Can you explain|Could you describe|Explain to me] {name}{tail}.",
        f"What does {name} [do|mean]{tail}?",
        f"[Do you know|I want to know|I would like to know] what {name} is{tail}.",
        f"What do you know about {name}{tail}?",
        f"{name}?",
        f"{name.split(' ', 1)[-1] if name.split(' ')[0] in ('the', 'a', 'an') else name}[?|]",
    ] + list(more)


FACTS = [
    (
        term(
            "Tandem",
            "What does Tandem do?",
            "What is Tandem [for|good for]?",
            "[What|Which] problem does Tandem solve?",
            "Who or what is Tandem?",
            "What is this project[ about|]?",
            "What is this [program|software]?",
            "[Tell me|I want to know] [something|more|everything|a bit] about Tandem.",
            "[What|Who] is Tandem and what does it do?",
            tandem=False,
        ),
        "Tandem serves Gemma 3 models on the NPU and the integrated GPU of one machine together, as a small cluster of processes.",
        ["Gemma 3", "NPU", "GPU"],
    ),
    (
        term(
            "the gateway",
            "What is the [job|role|task|purpose] of the gateway?",
            "Which process [answers|takes|handles] [HTTP |the |]requests?",
            "Which process owns the public ports?",
            "Why [is there|do I need] a gateway?",
        ),
        "The gateway owns the public ports. It tokenises requests, schedules them, and streams the answers over HTTP and gRPC.",
        ["ports", "HTTP", "gRPC"],
    ),
    (
        term(
            "the loader",
            "What is the [job|role|task|purpose] of the loader?",
            "Which process [reads|opens|loads] the [weights|weight files|model file]?",
            "Why [is there|do I need] a loader?",
            "Who reads the model file?",
        ),
        "The loader reads GGUF and safetensors files, quantises and packs the weights, and publishes them in shared memory.",
        ["GGUF", "safetensors", "shared memory"],
    ),
    (
        term(
            "the gpu-worker",
            "What is the [job|role|task|purpose] of the [gpu-worker|GPU worker]?",
            "Which process [uses|owns|drives] the GPU?",
            "What is a GPU worker?",
            "[What|Which] API does the GPU worker use?",
        ),
        "The gpu-worker owns one Vulkan device. It runs its stages of every step and keeps its KV cache.",
        ["Vulkan", "stages"],
    ),
    (
        term(
            "the npu-worker",
            "What is the [job|role|task|purpose] of the [npu-worker|NPU worker]?",
            "Which process [uses|owns|drives] the NPU?",
            "What is an NPU worker?",
            "[What|Which] library does the NPU worker use?",
        ),
        "The npu-worker owns one NPU through XRT, or the CPU device when it is asked for by name. It runs its stages of every step.",
        ["NPU", "XRT"],
    ),
    (
        term(
            "the tandem command",
            "What can the tandem command [line |]do?",
            "What is the tandem command [line |]for?",
            "[Which|What] commands does tandem have?",
            "[List|Name] the tandem commands.",
        ),
        "The tandem command starts and stops a local cluster, chats, diagnoses and tokenises: up, down, status, chat, doctor, tokenize, version.",
        ["up", "down", "status", "chat", "doctor"],
    ),
    (
        [
            "[Which|What] processes [does Tandem have|are there|make up Tandem|belong to a cluster]?",
            "How many processes does Tandem [have|use|run]?",
            "[Name|List] the processes of Tandem.",
            "What are the parts of Tandem?",
            "What does a [Tandem |]cluster consist of?",
            "[Explain|Describe] the architecture of Tandem.",
            "How is Tandem built up?",
        ],
        "Tandem has four kinds of process: the gateway, the loader, the gpu-worker and the npu-worker. The tandem command starts them.",
        ["gateway", "loader", "gpu-worker", "npu-worker"],
    ),
    (
        term(
            "a plan",
            "What is a placement plan?",
            "What does a plan [say|contain|describe]?",
            "Why does Tandem [have|need|use] plans?",
        ),
        "A plan is a list of stages. It says which worker runs which layers and which part of them: attention, FFN, embedding or head.",
        ["stages", "worker"],
    ),
    (
        [
            "[Which|What] plans [exist|are there|does Tandem have|can I use|are available]?",
            "[Name|List|Show|Tell me] the [named |]plans.",
            "What are the [named |]plans [of|in] Tandem?",
            "[How many|Which kinds of] plans are there?",
            "What can I pass to --plan?",
        ],
        "The named plans are gpu, npu, split, hybrid, layers and auto.",
        ["gpu", "npu", "split", "hybrid", "layers", "auto"],
    ),
    (
        term(
            "the split plan",
            "What [is|does] plan split[ do|]?",
            "What [is|gets] split in the split plan?",
            "How does the split plan [work|divide the work]?",
            "Which plan uses [NPU and GPU|both devices] [together|at once]?",
            "What does --plan split do?",
        ),
        "The split plan runs attention on the NPU and the FFN on the GPU, and overlaps micro-batches so that both work at once.",
        ["attention", "NPU", "FFN", "GPU"],
    ),
    (
        term(
            "the gpu plan",
            "What does --plan gpu do?",
            "What does plan gpu do?",
            "Which plan uses [only the GPU|the GPU alone]?",
        ),
        "The gpu plan runs every stage on the GPU.",
        ["every stage", "GPU"],
    ),
    (
        term(
            "the npu plan",
            "What does --plan npu do?",
            "What does plan npu do?",
            "Which plan uses [only the NPU|the NPU alone]?",
        ),
        "The npu plan runs every stage on the NPU.",
        ["every stage", "NPU"],
    ),
    (
        term(
            "the hybrid plan",
            "What does --plan hybrid do?",
            "What does plan hybrid do?",
            "How does the hybrid plan [work|divide the work]?",
        ),
        "The hybrid plan runs the matrix products of prefill on the NPU, and attention, the KV cache and decode on the GPU.",
        ["prefill", "NPU", "decode", "GPU"],
    ),
    (
        term(
            "the layers plan",
            "What does --plan layers do?",
            "What does plan layers do?",
            "How does the layers plan [work|divide the work]?",
            "How can I [use|spread a model over] several [hosts|machines|GPUs]?",
            "Can Tandem [use|run on] [two|several|many] machines?",
        ),
        "The layers plan gives consecutive layers to several workers or hosts.",
        ["consecutive layers", "workers"],
    ),
    (
        [
            "[Which|What] plan [should I|shall I|must I|do I] [use|choose|take|pick]?",
            "[Which|What] plan is [best|the best|fastest|right for me]?",
            "[Which|What] is the best plan?",
            "Which plan do you recommend?",
        ],
        "Start with the auto plan: it measures the workers and picks the best placement.",
        ["auto"],
    ),
    (
        term(
            "the auto plan",
            "What does --plan auto do?",
            "What does plan auto do?",
            "How does [the auto plan|Tandem] choose a plan?",
            "Which plan [chooses|decides] by itself?",
        ),
        "The auto plan measures the stages of each worker at start and picks the best placement. tandem status shows the reasons.",
        ["measures", "status"],
    ),
    (
        term(
            "an edge",
            "What connects two stages?",
            "How do two stages [talk|exchange data]?",
            "What joins two stages?",
        ),
        "An edge joins two stages on one host. It is a ring of slots that hand the residual stream on through shared memory.",
        ["two stages", "ring"],
    ),
    (
        [
            "[Which|What] [handle kinds|kinds of edges|kinds of handles] [exist|are there|does Tandem have]?",
            "What is [a handle kind|dma-buf|host-pointer|an inline edge][ in Tandem|]?",
            "How is an edge['s memory|] shared?",
            "[Name|List] the handle kinds.",
        ],
        "An edge has one of three handle kinds, tried in this order: dma-buf, host-pointer, inline.",
        ["dma-buf", "host-pointer", "inline"],
    ),
    (
        term("a stage", "What is a stage of a plan?"),
        "A stage is a part of the model that one worker runs: some layers, and of them attention, the FFN, both, the embedding or the head.",
        ["worker", "layers"],
    ),
    (
        term("a step", "What happens in a step?"),
        "In a step the gateway sends one StepPlan to every worker of the plan, the stages run, and the last one samples the next tokens.",
        ["StepPlan", "samples"],
    ),
    (
        term(
            "a region",
            "What is a weight region?",
            "How do workers get the weights?",
            "How are weights shared?",
            "Where do the weights live?",
        ),
        "A region is shared memory that holds packed weights. The loader publishes it, and workers map it without a copy.",
        ["shared memory", "loader"],
    ),
    (
        [
            "How [do|can|could] I [load|run|start|serve|use] [Gemma 3 27B|the 27B model|Gemma 27B|gemma-3-27b|a 27B model]?",
            "[Which|What] command [loads|starts|runs] [Gemma 3 27B|the 27B model|Gemma 27B]?",
            "[Load|Run|Start] Gemma 3 27B.",
            "I want to [run|load|use] [Gemma 3 27B|the 27B model|Gemma 27B]. [How|What do I do]?",
            "How [do|can] I load the [big|largest|biggest] [model|Gemma]?",
            "Show me how to [load|run|start] Gemma 3 27B.",
        ],
        "Run: tandem up --model PATH --quant int4, where PATH is the file or folder of Gemma 3 27B.",
        ["tandem up --model PATH --quant int4"],
    ),
    (
        [
            "How [do|can|could] I [start|launch|run|boot] [Tandem|a cluster|the cluster|the server|a local cluster]?",
            "[Which|What] command starts [Tandem|the cluster|the server|a cluster]?",
            "How [do|can] I [load|serve] a model?",
            "What does tandem up do?",
            "How do I use tandem up?",
            "How do I get started[ with Tandem|]?",
        ],
        "Run: tandem up --model PATH. It starts the loader, the workers and the gateway.",
        ["tandem up --model PATH"],
    ),
    (
        [
            "How [do|can|could] I [stop|end|shut down|quit] [Tandem|a cluster|the cluster|the server]?",
            "[Which|What] command stops [Tandem|the cluster|the server]?",
            "What does tandem down do?",
        ],
        "Run: tandem down. It stops every process of the cluster.",
        ["tandem down"],
    ),
    (
        [
            "How [do|can|could] I see [the status|what is running|the state of the cluster|which device runs what|the plan]?",
            "What does tandem status [do|show]?",
            "[Which|What] command shows the status?",
            "How do I find out which device a stage runs on?",
            "Is the cluster running?",
        ],
        "Run: tandem status. It shows the processes, the plan, the device of each stage, the edge kinds and the tokens per second.",
        ["tandem status"],
    ),
    (
        [
            "How [do|can|could] I [chat|talk] [with|to] [a model|the model|Tandem][ in the terminal|]?",
            "What does tandem chat do?",
            "[Which|What] command [opens|starts] a chat?",
            "How do I ask one question from the [terminal|command line]?",
        ],
        'Run: tandem chat. For a single question: tandem chat --once "text".',
        ["tandem chat"],
    ),
    (
        [
            "What does tandem doctor do?",
            "How [do|can] I [check|diagnose] my [machine|system|hardware|setup]?",
            "[Which|What] command [checks|diagnoses] [the machine|my system|drivers]?",
            "How do I know whether my [GPU|NPU] works?",
            "What is tandem doctor[ for|]?",
        ],
        "Run: tandem doctor. It finds Vulkan devices, NPUs, drivers, memory and limits, and says what would run where and what is missing.",
        ["tandem doctor"],
    ),
    (
        [
            "What does tandem tokenize do?",
            "How [do|can] I [tokenise|tokenize] [text|a text|a sentence]?",
            "[Which|What] command turns text into token ids?",
        ],
        "Run: tandem tokenize. It reads text on stdin and prints token ids, and it can turn ids back into text.",
        ["tandem tokenize"],
    ),
    (
        [
            "How [do|can] I see the version?",
            "What does tandem version do?",
            "[Which|What] version [is this|of Tandem is this]?",
        ],
        "Run: tandem version. It prints the version of Tandem.",
        ["tandem version"],
    ),
    (
        [
            "[Which|What] [weight formats|formats for weights|quantisations|quantizations] [exist|are there|does Tandem have|are supported|can I use]?",
            "What can I pass to --quant?",
            "What does --quant do?",
            "How can I quantise a model?",
            "[Name|List] the weight formats.",
        ],
        "The weight formats are bf16, int8 and int4. Choose one with --quant bf16, int8, int4 or as-is.",
        ["bf16", "int8", "int4"],
    ),
    (
        term(
            "int4",
            "How does int4 [work|store weights]?",
            "What is the int4 format?",
            "How many bits has an int4 weight?",
        ),
        "int4 stores each weight in four bits, with one scale for a group of 32 weights. It is the smallest format.",
        ["four bits", "32"],
    ),
    (
        term(
            "int8",
            "How does int8 [work|store weights]?",
            "What is the int8 format?",
            "How many bits has an int8 weight?",
        ),
        "int8 stores each weight in eight bits, with one scale for a group of 32 weights.",
        ["eight bits", "32"],
    ),
    (
        term("bf16", "What is the bf16 format?", "How many bits has a bf16 weight?"),
        "bf16 stores each weight as a 16-bit brain float. Nothing is quantised.",
        ["16-bit"],
    ),
    (
        term(
            "quantisation",
            "What is quantization?",
            "Why [do we|should I|does Tandem] quantise [weights|a model]?",
            "What is [int4|quantisation] good for?",
        ),
        "Quantisation stores weights in fewer bits. Decoding then reads fewer bytes and is faster, at the cost of a little accuracy.",
        ["fewer bits"],
    ),
    (
        [
            "[Which|What] [file formats|model files|formats of files|checkpoints] [does Tandem|can Tandem|can the loader|does the loader] [read|load|support|accept]?",
            "Can Tandem [read|load] [GGUF|safetensors]?",
            "Does Tandem [read|load|support] [GGUF|safetensors][ files|]?",
            "[Which|What] files can I load?",
        ],
        "Tandem reads GGUF and safetensors files, a folder of them, or a Hugging Face cache snapshot.",
        ["GGUF", "safetensors"],
    ),
    (
        [
            "[Which|What] models [does Tandem|can Tandem] [run|serve|support|load]?",
            "[Can|Does] Tandem [run|serve|support] [Gemma 3|Gemma|other models|Llama]?",
            "[Which|What] sizes of Gemma [are supported|can I use|work]?",
        ],
        "Tandem serves Gemma 3, from 1B to 27B.",
        ["Gemma 3", "27B"],
    ),
    (
        [
            "[Which|What] APIs [does Tandem|does the gateway] [have|offer|speak|support]?",
            "How [do|can] I [call|reach|use] Tandem from [my program|code|a program|an application]?",
            "Does Tandem [have|speak|support] [the OpenAI API|an OpenAI API|gRPC|HTTP]?",
            "Is Tandem compatible with [OpenAI|the OpenAI API]?",
            "Can I use [an|the] OpenAI client[ with Tandem|]?",
            "[How do I use|Can I use|How can I call|Can I call] Tandem [from|with] [Python|JavaScript|Node|curl|a script|an app|my code]?",
        ],
        "Tandem speaks the OpenAI v1 API over HTTP, and gRPC. Any OpenAI client works: set its base URL to the gateway.",
        ["OpenAI", "gRPC"],
    ),
    (
        [
            "[Which|What] [HTTP |]endpoints [does Tandem have|are there|exist|does the gateway have|does the gateway offer]?",
            "[Which|What] URLs [are there|can I call]?",
            "[Name|List] the [HTTP |]endpoints.",
            "What is the path [for chat|of the chat API]?",
        ],
        "The HTTP endpoints are /v1/chat/completions, /v1/completions, /v1/models, /healthz, /readyz and /metrics.",
        ["/v1/chat/completions", "/v1/models", "/metrics"],
    ),
    (
        [
            "[Which|What] port [does Tandem|does the gateway] [use|listen on]?",
            "[Which|What] ports are [used|open]?",
            "How [do|can] I [set|change|choose] the [port|address|ports]?",
            "Where does the gateway listen?",
            "What are --http and --grpc for?",
        ],
        "The gateway listens on the addresses given with --http and --grpc. tandem status shows them.",
        ["--http", "--grpc"],
    ),
    (
        [
            "Can I [stream|get streamed] [answers|tokens|the answer]?",
            "Does Tandem [stream|support streaming]?",
            "How does streaming work?",
            "How do I stream an answer?",
        ],
        "Yes. Over HTTP set stream to true and read server-sent events; over gRPC, Generate is a server stream.",
        ["stream", "server-sent events"],
    ),
    (
        [
            "[Do I need|When do I need|Is there|Does Tandem need|Does Tandem have|Must I set|How do I set|Why is there|Is it good to have] [an API key|a password|a key for the API|a secret key]?",
            "[How|Is Tandem] [is it |]protected?",
            "Can other [machines|people] [reach|use] my Tandem?",
            "Why does the gateway refuse to listen[ on a public address|]?",
        ],
        "Without an API key the gateway listens only on loopback or a Unix socket. For any other address it needs an API key.",
        ["API key", "loopback"],
    ),
    (
        [
            "[How|Where] [do|can] I [see|get|find] [the metrics|metrics]?",
            "Does Tandem have metrics?",
            "How [do|can] I [monitor|watch] Tandem?",
            "Can I use [Prometheus|Grafana]?",
            "Does Tandem work with [Prometheus|Grafana]?",
        ],
        "The gateway serves metrics at /metrics for Prometheus, and Grafana shows them.",
        ["/metrics", "Prometheus"],
    ),
]
