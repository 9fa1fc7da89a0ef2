"""Stage calls as rows of data: method, application, and what distinguishes the call."""


def encode(*texts):
    return ("EncodeText", "shapes-encoders", list(texts))


def see(level):
    return ("EncodeImage", "shapes-encoders", level)


def sample(text, negative, seed, **more):
    what = {"text": text, "negative": negative, "seed": seed, **more}
    return ("SampleEmbedding", "tiny-prior", what)


def decode(image, negative, seed, **more):
    what = {"image": image, "negative": negative, "seed": seed, **more}
    return ("Decode", "tiny-decoder", what)


def recorded(stages):
    """The calls of the stages, in order; an absent part is left out."""
    return [
        (call.method, call.metadata["application"], _what(stages, call)) for call in stages.calls
    ]


def _what(stages, call):
    request = call.request
    if call.method == "EncodeText":
        return list(request.texts)
    if call.method == "EncodeImage":
        return request.pixels.data[0]
    what = {"seed": request.sampling.seed}
    if call.method == "SampleEmbedding":
        what["text"] = stages.name(request.conditioning, "text_embed")
        what["negative"] = stages.name(request.conditioning, "negative_text_embed")
        if request.HasField("start_embed"):
            what["start"] = (stages.name(request, "start_embed"), request.strength)
        return what
    what["image"] = stages.name(request.conditioning, "image_embed")
    what["negative"] = stages.name(request.conditioning, "negative_image_embed")
    for side in ("", "negative_"):
        if request.conditioning.HasField(f"{side}text_embed"):
            what[f"{side}text"] = stages.name(request.conditioning, f"{side}text_embed")
    if request.conditioning.HasField("hint"):
        what["hint"] = tuple(request.conditioning.hint.shape)
    start = request.start.WhichOneof("kind")
    if start != "noise":
        latents = getattr(request.start, start)
        what["start"] = start
        what["pixels"] = latents.pixels.data[0] if latents.pixels.data else "latents"
        what["size"] = (request.start.height, request.start.width)
        if latents.HasField("strength"):
            what["strength"] = latents.strength
    return what
