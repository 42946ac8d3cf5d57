"""The way to Google: transport, the Gemini client, deployments and the choice among them."""
