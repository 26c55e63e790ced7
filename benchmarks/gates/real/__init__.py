"""The gate on real SGLang: unchanged servers, planted losses, a flag; judged by what is shipped."""
