"""The model families of this stage: name in the catalog to import path, loaded when used."""

FAMILIES = {
    "kandinsky-2-1": "services.encoders.families.kandinsky_2_1:encoders",
    "kandinsky-2-2": "services.encoders.families.kandinsky_2_2:encoders",
    "kandinsky-3": "services.encoders.families.kandinsky_3:encoders",
    "karlo": "services.encoders.families.karlo:encoders",
    "stable-diffusion-inpainting": (
        "services.encoders.families.stable_diffusion_inpainting:encoders"
    ),
    "versatile-diffusion": "services.encoders.families.versatile_diffusion:encoders",
}
